#include "duration_histogram.h"

#include <chrono>
#include <vector>

#include "test.h"

namespace walmirror::test::duration_histogram_test {
namespace {

using std::chrono::nanoseconds;

nanoseconds of_ms(double ms) { return nanoseconds(static_cast<int64_t>(ms * 1e6)); }

TEST(DurationsAreCountedInTheBucketThatEndsAtOrAboveThem) {
  std::vector<nanoseconds> all = {nanoseconds(-5), nanoseconds(0), nanoseconds(1)};
  for (double ns = 2; ns < 229e9; ns *= 1.01) all.emplace_back(static_cast<int64_t>(ns));
  for (nanoseconds took : all) {
    size_t bucket = DurationHistogram::bucket_of(took);
    double ms = static_cast<double>(took.count()) / 1e6;
    CHECK(ms <= DurationHistogram::limit_ms(bucket));
    if (bucket > 0) CHECK(ms > DurationHistogram::limit_ms(bucket - 1));
  }
}

TEST(DurationsThatAreWholeMillisecondsAndDoublingsEndABucket) {
  for (double limit = 1; limit <= 16384; limit *= 2) {
    size_t bucket = DurationHistogram::bucket_of(of_ms(limit));
    CHECK_EQ(DurationHistogram::limit_ms(bucket), limit);
    CHECK_EQ(DurationHistogram::bucket_of(of_ms(limit) + nanoseconds(1)), bucket + 1);
  }
}

TEST(DurationsAreToldToAQuarterAndTheLongestGoInTheLastBucket) {
  for (size_t bucket = 4; bucket + 1 < DurationHistogram::kBuckets; bucket++) {
    double limit = DurationHistogram::limit_ms(bucket);
    CHECK(limit > DurationHistogram::limit_ms(bucket - 1));
    CHECK(limit <= 1.25 * DurationHistogram::limit_ms(bucket - 1));
  }
  DurationHistogram histogram;
  size_t last = DurationHistogram::kBuckets - 1;
  histogram.add(std::chrono::hours(1));
  histogram.add(nanoseconds::max());
  CHECK_EQ(histogram.count(last), 2u);
}

}  // namespace
}  // namespace walmirror::test::duration_histogram_test
