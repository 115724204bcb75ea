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
        "Tool",
        "ToolCall",
        "ToolReply",
        "Trajectory",
        "Video",
        "evaluate",
        "load_dataset",
        "read_trajectories",
        "tool",
    ]
    assert all(hasattr(longvideo_env, name) for name in longvideo_env.__all__)
