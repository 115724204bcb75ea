"""Readers that turn files in the layouts of LongTVQA+, LongTVQA and TVQA into tasks."""

from longvideo_env.datasets.dataset import Dataset
from longvideo_env.datasets.loading import load_dataset

__all__ = ["Dataset", "load_dataset"]
