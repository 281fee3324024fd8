// A log with several directories: opening it (SAFETY 7.2).
#include "copy_opening.h"
#include "log.h"

namespace walmirror {

std::vector<CopyStatus> Log::copies() const {
  return copies_ == nullptr ? std::vector<CopyStatus>{} : copies_->status();
}

size_t Log::copies_acknowledging() const {
  return copies_ == nullptr ? 0 : copies_->acknowledging();
}

/// One directory is given: it must be the only copy that is in.
void Log::open_alone(const LogOptions& options) {
  Control control = control_->current();
  if (control.membership.generation == 0) return;
  if (!require_copies(control.membership, {control.own_copy}, options.accept_missing)) return;
  auto now = std::chrono::system_clock::now().time_since_epoch();
  auto us = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
  control_->update(ControlFile::Copies::kBoth, [us](Control& next) {
    for (CopyRecord& copy : next.membership.copies) {
      if (copy.id == next.own_copy || copy.state == CopyState::kOut) continue;
      copy.state = CopyState::kOut;
      copy.reason = OutReason::kAccepted;
      copy.since_us = static_cast<uint64_t>(us);
    }
    next.membership.quorum = 0;
    next.membership.next_generation();
  });
}

void Log::open_several(const LogOptions& options) {
  std::vector<std::string> directories{directory_};
  directories.insert(directories.end(), options.mirrors.begin(), options.mirrors.end());
  if (directories.size() > kMaxCopies) {
    throw WalFailure("WAL_UNSUPPORTED",
                     "a log has at most " + std::to_string(kMaxCopies) + " directories");
  }
  CopyOpening opening(files_, directories, options.accept_missing);
  if (opening.fresh()) {
    if (!files_->prepare_directory(directory_, options.create))
      throw WalFailure("WAL_NOT_FOUND", "there is no log in " + directory_);
    {
      std::unique_ptr<DirectoryLock> lock = opening.lock_first();
      create_log(options);
      control_.reset();
    }
    opening.created();
  }
  opening.choose();
  uint64_t ring = ring_size(options.ring_bytes, opening.control().max_record_bytes);
  opening.level(recovery_reach(ring, opening.control().segment_bytes));
  const Control control = opening.known_of_all();
  copies_ = opening.make_set(std::chrono::milliseconds(options.copy_lag_ms),
                             options.mirror_quorum.value_or(control.membership.quorum),
                             options.copy_behind_bytes);
  control_ = ControlFile::open_all(files_, copies_, control, opening.sequence());
  copies_->on_settle([control = control_.get()] { control->store_membership(); });
  disks_ = files_;
  fill_rate_ = options.copy_fill_rate;
  copy_look_ = std::chrono::milliseconds(options.copy_look_ms);
  mirror_ = std::make_shared<Mirror>(disks_, copies_, directory_);
  files_ = mirror_;
}

}  // namespace walmirror
