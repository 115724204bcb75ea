import longvideo_env


def test_public_names():
    assert longvideo_env.__all__ == [
        "Dataset",
        "EnvConfig",
        "Episode",
        "Gold",
        "LongTVQAEnv",
        "LongVideoEnvError",
        "Question",
        "RolloutEngine",
        "Task",
        "Trajectory",
        "Video",
        "load_dataset",
        "read_trajectories",
    ]
    assert all(hasattr(longvideo_env, name) for name in longvideo_env.__all__)
