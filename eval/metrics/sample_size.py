"""The number of videos and questions that a comparison of two runs needs.

    plan = SampleSize(variance=0.3, correlation=0.05, per_video=12)
    plan.power(0.03, videos=50)  # 0.18: finds 3 percentage points one time in six
    plan.detectable(videos=50)  # 0.08
    plan.videos_needed(0.03)  # 340

The tests of `eval.metrics.paired` are approximated by Student's t. Its degrees of freedom are the
number of videos minus one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from scipy.special import stdtr, stdtrit

from eval.metrics.clusters import Clustered
from eval.metrics.intervals import student
from eval.metrics.paired import LEAST_VIDEOS

POWER = 0.8
"""The share of comparisons that must find a difference, for it to count as detectable."""
MOST_VIDEOS = 10_000_000


@dataclass(frozen=True)
class SampleSize:
    """The assumptions about a comparison of two runs on the same questions.

    Attributes:
        variance: Variance of a question's difference between the runs. If they disagree on a share
            q of the questions and differ by d, it is q - d^2.
        correlation: Correlation of the differences within a video, from 0 to 1.
        per_video: Mean number of questions per video.
        unevenness: Mean number of questions in a random question's video, divided by `per_video`. 1
            if all videos have the same number.
    """

    variance: float
    correlation: float
    per_video: float
    unevenness: float = 1.0

    def error(self, videos: float) -> float:
        """Standard error of the difference."""
        alike = 1 + max(0.0, self.per_video * self.unevenness - 1) * self.correlation
        return sqrt(self.variance * alike / (videos * self.per_video))

    def power(self, difference: float, videos: int) -> float:
        """The probability that a true difference gives p <= 0.05 (two-sided)."""
        if videos < LEAST_VIDEOS:
            return 0.0
        df = self._df(videos)
        return float(stdtr(df, abs(difference) / self.error(videos) - student(df)))

    def detectable(self, videos: int) -> float | None:
        """The smallest difference found four times in five. None with too few videos."""
        if videos < LEAST_VIDEOS:
            return None
        df = self._df(videos)
        return (student(df) + float(stdtrit(df, POWER))) * self.error(videos)

    def videos_needed(self, difference: float) -> int | None:
        """Videos needed to find a difference four times in five. None above `MOST_VIDEOS`."""
        low, high = LEAST_VIDEOS - 1, LEAST_VIDEOS
        while self.power(difference, high) < POWER:
            low, high = high, 2 * high
            if high > MOST_VIDEOS:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.power(difference, middle) >= POWER else (middle, high)
        return high

    def _df(self, videos: int) -> float:
        return max(1.0, videos / self.unevenness - 1)


def plan_of(found: Clustered) -> SampleSize | None:
    """The plan for more videos with differences like these. None if the runs never disagree."""
    variance = found.independent * found.n_questions
    if variance <= 0:
        return None
    per_video = found.n_questions / found.n_clusters
    return SampleSize(variance, found.correlation, per_video, found.typical_size / per_video)
