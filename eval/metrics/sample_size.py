"""How many videos and questions it takes to tell two runs apart.

    plan = SampleSize(variance=0.3, correlation=0.05, per_video=12)
    plan.power(0.03, videos=50)  # 0.18: three points are found one time in six
    plan.detectable(videos=50)  # 0.08
    plan.videos_needed(0.03)  # 340

Student's t with as many degrees of freedom as there are videos, less one, stands for the tests of
`eval.metrics.paired`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from scipy.special import stdtr, stdtrit

from eval.metrics.clusters import Clustered
from eval.metrics.intervals import student
from eval.metrics.paired import LEAST_VIDEOS

POWER = 0.8
"""A difference counts as findable where it is found so often."""
MOST_VIDEOS = 10_000_000


@dataclass(frozen=True)
class SampleSize:
    """What a comparison of two runs on the same questions is like.

    Attributes:
        variance: Of a question's difference between the runs. Where they disagree on a share q of
            the questions and differ by d, it is q - d^2.
        correlation: Of the differences of questions about one video, within 0 and 1.
        per_video: Questions of a video, on average.
        unevenness: Questions in the video of a question taken at random, over `per_video`: 1 where
            all videos have as many.
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
        """How often a true difference gives p <= 0.05 (two-sided)."""
        if videos < LEAST_VIDEOS:
            return 0.0
        df = self._df(videos)
        return float(stdtr(df, abs(difference) / self.error(videos) - student(df)))

    def detectable(self, videos: int) -> float | None:
        """The smallest difference that is found four times in five; None with too few videos."""
        if videos < LEAST_VIDEOS:
            return None
        df = self._df(videos)
        return (student(df) + float(stdtrit(df, POWER))) * self.error(videos)

    def videos_needed(self, difference: float) -> int | None:
        """How many videos it takes to find a difference four times in five; None beyond all."""
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
    """The plan that goes on as these differences began; None where the runs never disagree."""
    variance = found.independent * found.n_questions
    if variance <= 0:
        return None
    per_video = found.n_questions / found.n_clusters
    return SampleSize(variance, found.correlation, per_video, found.typical_size / per_video)
