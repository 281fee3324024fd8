#include "convert.h"

#include <algorithm>
#include <iterator>

namespace walmirror {

ByteView to_bytes(const Napi::Value& value) {
  if (!value.IsTypedArray()) throw Napi::TypeError::New(value.Env(), "a Uint8Array is needed");
  // Not by its ArrayBuffer: a SharedArrayBuffer is none.
  napi_env env = value.Env();
  void* data = nullptr;
  napi_status status =
      napi_get_typedarray_info(env, value, nullptr, nullptr, &data, nullptr, nullptr);
  if (status != napi_ok) throw Napi::Error::New(env);
  return {static_cast<uint8_t*>(data), value.As<Napi::TypedArray>().ByteLength()};
}

uint64_t to_uint(const Napi::Value& value, const char* name) {
  double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number >= 0 && number <= 9007199254740991.0) ||
      number != static_cast<double>(static_cast<uint64_t>(number))) {
    throw Napi::TypeError::New(value.Env(),
                               std::string(name) + " takes a whole number of at least 0");
  }
  return static_cast<uint64_t>(number);
}

uint64_t get_uint(const Napi::Object& object, const char* key) {
  return to_uint(object.Get(key), key);
}

bool get_bool(const Napi::Object& object, const char* key) {
  return object.Get(key).ToBoolean().Value();
}

std::string get_text(const Napi::Object& object, const char* key) {
  Napi::Value value = object.Get(key);
  if (!value.IsString())
    throw Napi::TypeError::New(object.Env(), std::string(key) + " takes a string");
  return value.As<Napi::String>().Utf8Value();
}

std::vector<std::string> get_texts(const Napi::Object& object, const char* key) {
  Napi::Value value = object.Get(key);
  std::vector<std::string> texts;
  if (value.IsUndefined()) return texts;
  if (!value.IsArray())
    throw Napi::TypeError::New(object.Env(), std::string(key) + " takes an array of strings");
  Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++) {
    Napi::Value item = array[i];
    if (!item.IsString())
      throw Napi::TypeError::New(object.Env(), std::string(key) + " takes an array of strings");
    texts.push_back(item.As<Napi::String>().Utf8Value());
  }
  return texts;
}

ByteView to_bytes(const Napi::Value& value, const Napi::Value& size) {
  ByteView bytes = to_bytes(value);
  uint64_t first = to_uint(size, "bytes");
  if (first > bytes.size)
    throw Napi::RangeError::New(value.Env(), "there are not so many bytes in the buffer");
  return {bytes.data, first};
}

Napi::Value number(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

Napi::Array copies_array(Napi::Env env, const std::vector<CopyStatus>& copies) {
  Napi::Array rows = Napi::Array::New(env);
  for (const CopyStatus& copy : copies) {
    Napi::Object row = Napi::Object::New(env);
    row.Set("dir", copy.directory);
    row.Set("state", copy.in ? "in" : copy.filling ? "resyncing" : "dropped");
    row.Set("reason", copy.reason);
    row.Set("since", number(env, copy.since_us / 1000));
    row.Set("filled", number(env, copy.filled));
    row.Set("toFill", number(env, copy.to_fill));
    row.Set("badReads", number(env, copy.bad_reads));
    row.Set("behind", number(env, copy.behind));
    rows.Set(rows.Length(), row);
  }
  return rows;
}

Napi::Object place_object(Napi::Env env, uint64_t position, uint64_t lsn) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("position", number(env, position));
  object.Set("lsn", number(env, lsn));
  return object;
}

static void set_term(Napi::Env env, Napi::Object object, const Term& term) {
  object.Set("epoch", number(env, term.epoch));
  object.Set("opener", hex(term.opener.data(), term.opener.size()));
  object.Set("incarnation", number(env, term.incarnation));
}

Napi::Object term_object(Napi::Env env, const Term& term) {
  Napi::Object object = Napi::Object::New(env);
  set_term(env, object, term);
  return object;
}

Term to_term(const Napi::Value& value) {
  if (!value.IsObject())
    throw Napi::TypeError::New(value.Env(), "a term takes { epoch, opener, incarnation }");
  Napi::Object object = value.As<Napi::Object>();
  Term term;
  term.epoch = get_uint(object, "epoch");
  term.incarnation = static_cast<uint32_t>(get_uint(object, "incarnation"));
  if (!from_hex(get_text(object, "opener"), term.opener.data(), term.opener.size())) {
    throw Napi::TypeError::New(value.Env(), "opener takes 32 hexadecimal digits");
  }
  return term;
}

static const char* const kLevelNames[] = {"off", "local", "remote_write", "remote_flush",
                                          "remote_apply"};

static Napi::Object rule_object(Napi::Env env, const Rule& rule) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("synchronousCommit", kLevelNames[static_cast<uint32_t>(rule.level) - 1]);
  object.Set("synchronousStandbys",
             rule.standbys.empty() ? env.Null() : Napi::String::New(env, rule.standbys));
  Napi::Array members = Napi::Array::New(env, rule.members.size());
  for (uint32_t i = 0; i < rule.members.size(); i++) {
    members.Set(i, hex(rule.members[i].data(), rule.members[i].size()));
  }
  object.Set("members", members);
  object.Set("degraded", rule.degraded);
  return object;
}

Rule to_rule(const Napi::Value& value) {
  Napi::Env env = value.Env();
  if (!value.IsObject()) throw Napi::TypeError::New(env, "a rule takes an object");
  Napi::Object object = value.As<Napi::Object>();
  Rule rule;
  std::string name = get_text(object, "synchronousCommit");
  auto level = std::find(std::begin(kLevelNames), std::end(kLevelNames), name);
  if (level == std::end(kLevelNames)) throw Napi::TypeError::New(env, "no such commit level");
  rule.level = static_cast<CommitLevel>(level - std::begin(kLevelNames) + 1);
  if (!object.Get("synchronousStandbys").IsNull())
    rule.standbys = get_text(object, "synchronousStandbys");
  if (!object.Get("members").IsArray()) throw Napi::TypeError::New(env, "members takes an array");
  Napi::Array members = object.Get("members").As<Napi::Array>();
  for (uint32_t i = 0; i < members.Length(); i++) {
    Id id;
    Napi::Value member = members[i];
    if (!member.IsString() ||
        !from_hex(member.As<Napi::String>().Utf8Value(), id.data(), id.size())) {
      throw Napi::TypeError::New(env, "members takes node ids of 32 hexadecimal digits");
    }
    rule.members.push_back(id);
  }
  if (!object.Get("degraded").IsBoolean()) {
    throw Napi::TypeError::New(env, "degraded takes true or false");
  }
  rule.degraded = object.Get("degraded").As<Napi::Boolean>();
  return rule;
}

History to_history(const Napi::Value& value) {
  if (!value.IsArray()) throw Napi::TypeError::New(value.Env(), "history takes an array");
  Napi::Array array = value.As<Napi::Array>();
  History history;
  for (uint32_t i = 0; i < array.Length(); i++) {
    Napi::Value entry = array[i];
    Term term = to_term(entry);
    Napi::Object object = entry.As<Napi::Object>();
    history.push_back({term, get_uint(object, "position"), get_uint(object, "lsn")});
  }
  return history;
}

Napi::Value read_object(Napi::Env env, const ReadOutcome& outcome) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("offset", number(env, outcome.offset));
  object.Set("length", number(env, outcome.length));
  object.Set("next", number(env, outcome.next));
  object.Set("lsn", number(env, outcome.lsn));
  object.Set("need", number(env, outcome.need));
  Napi::Array ends = Napi::Array::New(env, 2 * outcome.ends.size());
  uint32_t at = 0;
  for (const Place& end : outcome.ends) {
    ends.Set(at++, number(env, end.position));
    ends.Set(at++, number(env, end.lsn));
  }
  object.Set("ends", ends);
  return object;
}

const char* role_name(Role role) {
  switch (role) {
    case Role::kPrimary:
      return "primary";
    case Role::kStandby:
      return "standby";
    case Role::kFenced:
      return "fenced";
  }
  return "fenced";
}

Role to_role(const Napi::Value& value) {
  std::string name = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (name == "primary") return Role::kPrimary;
  if (name == "standby") return Role::kStandby;
  if (name == "fenced") return Role::kFenced;
  throw Napi::TypeError::New(value.Env(), "role takes 'primary', 'standby' or 'fenced'");
}

Cut to_cut(const Napi::Value& value) {
  std::string how = value.IsUndefined() ? "unseen" : value.ToString().Utf8Value();
  if (how == "unseen") return Cut::kUnseen;
  if (how == "seen") return Cut::kSeen;
  if (how == "returning") return Cut::kReturning;
  throw Napi::TypeError::New(value.Env(), "a cut is 'unseen', 'seen' or 'returning'");
}

Napi::Object recovery_object(Napi::Env env, const RecoveryReport& report) {
  Napi::Object recovery = Napi::Object::New(env);
  recovery.Set("clean", Napi::Boolean::New(env, report.clean));
  recovery.Set("scannedBytes", number(env, report.scanned_bytes));
  recovery.Set("cutBytes", number(env, report.cut_bytes));
  recovery.Set("rewrittenBytes", number(env, report.rewritten_bytes));
  recovery.Set("milliseconds", Napi::Number::New(env, report.milliseconds));
  return recovery;
}

Napi::Object info_object(Napi::Env env, const Control& control, const Term& term,
                         const History& history) {
  Napi::Object info = Napi::Object::New(env);
  uint64_t salt = __builtin_bswap64(control.salt);
  info.Set("logId", hex(control.log_id.data(), control.log_id.size()));
  info.Set("salt", hex(reinterpret_cast<const uint8_t*>(&salt), sizeof salt));
  info.Set("nodeId", hex(control.node_id.data(), control.node_id.size()));
  info.Set("name", control.name);
  info.Set("role", role_name(control.role));
  info.Set("primaryName", control.primary_name);
  info.Set("primaryAddress", control.primary_address);
  info.Set("lastContact",
           control.contact_us == 0 ? env.Null() : number(env, control.contact_us / 1000));
  info.Set("rule", control.rule ? Napi::Value(rule_object(env, *control.rule)) : env.Null());
  info.Set("term", term_object(env, term));
  Napi::Array entries = Napi::Array::New(env, history.size());
  for (uint32_t i = 0; i < history.size(); i++) {
    Napi::Object entry = place_object(env, history[i].position, history[i].lsn);
    set_term(env, entry, history[i].term);
    entries.Set(i, entry);
  }
  info.Set("history", entries);
  info.Set("segmentBytes", number(env, control.segment_bytes));
  info.Set("padded", Napi::Boolean::New(env, control.align == kBlock));
  info.Set("maxRecordBytes", number(env, control.max_record_bytes));
  info.Set("start", place_object(env, control.start_position, control.start_lsn));
  info.Set("commit", place_object(env, control.commit.position, control.commit.lsn));
  info.Set("quorumLsn", number(env, control.quorum_lsn));
  info.Set("quorumMostLsn", number(env, control.quorum_most_lsn));
  info.Set("isRuleOfEarlierTerm", Napi::Boolean::New(env, control.rule_of_earlier_term));
  info.Set("isRuleUntold", Napi::Boolean::New(env, control.rule_untold));
  info.Set("isRuleUndercut", Napi::Boolean::New(env, control.rule_undercut));
  info.Set("isCommitExact", Napi::Boolean::New(env, control.commit_exact));
  info.Set("rebuild", env.Null());
  if (control.rebuild_from != 0) {
    Napi::Object rebuild = Napi::Object::New(env);
    rebuild.Set("from", number(env, control.rebuild_from));
    rebuild.Set("to", number(env, control.rebuild_to));
    info.Set("rebuild", rebuild);
  }
  return info;
}

Napi::Error no_memory(Napi::Env env) {
  Napi::Error error = Napi::Error::New(env, "out of memory");
  error.Value().Set("code", "WAL_NO_MEMORY");
  return error;
}

Napi::Error part_taken(Napi::Env env, const PartTaken& failure) {
  Napi::Error error = Napi::Error::New(env, failure.what());
  Napi::Object value = error.Value();
  value.Set("code", "WAL_FAILED");
  value.Set("outcome", "unknown");
  return error;
}

Napi::Object new_instance(Napi::Env env, const Napi::FunctionReference& constructor) {
  try {
    return constructor.New({});
  } catch (const Napi::Error& error) {
    if (error.Message() == std::bad_alloc().what()) throw no_memory(env);
    throw;
  }
}

Napi::Error to_error(Napi::Env env, const WalFailure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.what());
  Napi::Object value = error.Value();
  value.Set("code", failure.code);
  if (!failure.file.empty()) value.Set("file", failure.file);
  if (!failure.hint.empty()) value.Set("hint", failure.hint);
  if (failure.offset >= 0) value.Set("offset", number(env, static_cast<uint64_t>(failure.offset)));
  if (failure.lsn > 0) value.Set("lsn", number(env, static_cast<uint64_t>(failure.lsn)));
  if (failure.error_number != 0) value.Set("errno", Napi::Number::New(env, failure.error_number));
  return error;
}

}  // namespace walmirror
