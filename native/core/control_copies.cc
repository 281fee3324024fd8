// The control file of a log with several directories: one of each, all told the same (SAFETY 7.1).
#include <cstring>

#include "control_block.h"
#include "control_file.h"

namespace walmirror {
namespace {

/// What each of them gets differs in one field: whose it is.
void encode_for(const AlignedBuffer& all, const Id& own, AlignedBuffer& out) {
  out.reserve(kControlCopyBytes);
  std::memcpy(out.data(), all.data(), kControlCopyBytes);
  std::memcpy(out.data() + offsetof(ControlBlock, own_copy), own.data(), own.size());
  seal_control(out.data());
}

}  // namespace

std::unique_ptr<ControlFile> ControlFile::open_all(std::shared_ptr<FileSystem> files,
                                                   std::shared_ptr<CopySet> set,
                                                   const Control& control, uint64_t sequence) {
  std::unique_ptr<ControlFile> opened(new ControlFile());
  opened->system_ = std::move(files);
  opened->set_ = std::move(set);
  opened->path_ = opened->set_->directory(opened->set_->all_in().at(0)) + "/control";
  opened->control_ = control;
  opened->sequence_ = sequence;
  opened->files_.resize(opened->set_->count());
  for (size_t copy : opened->set_->all_in()) {
    try {
      opened->files_[copy] = open_whole(*opened->system_, opened->set_->directory(copy));
    } catch (const WalFailure& failure) {
      if (!opened->set_->drop(copy, reason_of(failure), failure.what())) throw;
    }
  }
  std::lock_guard<std::mutex> guard(opened->mutex_);
  opened->settle();
  opened->store(Copies::kBoth);
  return opened;
}

std::shared_ptr<File> ControlFile::open_whole(FileSystem& files, const std::string& directory) {
  std::string path = directory + "/control";
  ControlFile control(files.open(path, OpenMode::kReadWrite, true), path);
  control.load();
  if (control.bad_copy_) control.settle();
  return control.file_;
}

void ControlFile::write_all(const Control& control, uint64_t sequence) {
  auto all = std::make_shared<AlignedBuffer>(kControlCopyBytes);
  encode_control(control, sequence, all->data());
  std::vector<Id> ids;
  for (size_t copy = 0; copy < files_.size(); copy++) ids.push_back(set_->id(copy));
  uint64_t offset = ((sequence - 1) % 2) * kControlCopyBytes;
  set_->each([all, offset, ids = std::move(ids), files = files_](size_t copy) {
    AlignedBuffer own;
    encode_for(*all, ids[copy], own);
    Slice slice{own.data(), kControlCopyBytes};
    files[copy]->write(offset, &slice, 1, true);
  });
}

void ControlFile::join(size_t copy, const Id& id) {
  std::lock_guard<std::mutex> guard(mutex_);
  Control joined = control_;
  set_->record_in(joined.membership, copy, id);
  joined.own_copy = id;
  files_[copy] = nullptr;
  const std::string& directory = set_->directory(copy);
  // Not `control.new`: that is where the control socket is made.
  std::shared_ptr<File> file =
      write_new(*system_, directory, "control.join", joined, sequence_ + 1);
  files_[copy] = std::move(file);
  control_.membership = joined.membership;
  set_->join(copy, id);
  store(Copies::kBoth);
}

}  // namespace walmirror
