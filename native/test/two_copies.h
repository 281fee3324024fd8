// A log and a copy of it in one file system in memory, for tests of scrub and repair.
#pragma once

#include "log_fixture.h"
#include "repair.h"

namespace walmirror::test {

/// Directory `d` is the log, four segments of three terms with the beginning trimmed, `e` a copy.
/// `clean`: closed; else killed, with a watermark in the segment before the last.
DiskState make_two_copies(bool clean);

/// Copies every file but the lock.
void copy_directory(MemoryFileSystem& files, const std::string& from, const std::string& to);

std::string read_whole(MemoryFileSystem& files, const std::string& path);
/// The segment files of a directory, by their start.
std::map<uint64_t, std::string> segment_paths(MemoryFileSystem& files,
                                              const std::string& directory);
/// The bytes of all segments of a directory, by start.
std::map<uint64_t, std::string> segment_bytes(MemoryFileSystem& files,
                                              const std::string& directory);

/// Changes every byte of the range.
void damage(MemoryFileSystem& files, const std::string& path, uint64_t offset, uint64_t size = 1);

std::vector<DamagedRange> scrub(const std::shared_ptr<MemoryFileSystem>& files,
                                const std::string& directory = "d");
/// Repairs `d`; from `source`, if it names a directory.
RepairReport repair(const std::shared_ptr<MemoryFileSystem>& files, const std::string& source = "e",
                    bool dry_run = false);
/// Whether every damaged range was repaired, and there was one.
bool all_repaired(const RepairReport& report);

}  // namespace walmirror::test
