"""OpenEnv's own clients at a server. Prints what they saw as JSON.

    python clients.py URL SESSIONS EPISODES

The server must be running.
"""

import asyncio
import json
import sys
from importlib.metadata import version
from typing import Any

from openenv import GenericEnvClient
from openenv.cli._validation import validate_running_environment
from openenv.core import CallToolAction, MCPToolClient

TURNS = (
    "<reasoning>I must see it.</reasoning><search>What is on the table?</search>",
    "<request_grounding>another scene</request_grounding>",
    "neither this nor that",
    "<reasoning>Enough.</reasoning><answer>a1</answer>",
)


async def session(url: str, number: int, episodes: int) -> list[dict[str, Any]]:
    """The output of one client: the seed, texts and rewards of each episode."""
    seen = []
    async with GenericEnvClient(base_url=url) as env:
        for episode in range(episodes):
            seed = 1000 * number + episode
            results = [await env.reset(seed=seed)]
            for text in TURNS[episode % 4 :]:
                results.append(await env.step({"text": text}))
            state = await env.state()
            texts = [result.observation["text"] for result in results]
            rewards = [result.reward for result in results]
            done = [result.done for result in results]
            seen.append(
                {"seed": seed, "texts": texts, "rewards": rewards, "done": done, "state": state}
            )
    return seen


async def tools(url: str) -> dict[str, Any]:
    """An episode with tool calls only."""
    async with MCPToolClient(base_url=url) as env:
        opened = await env.reset(seed=5)
        names = [tool.name for tool in await env.list_tools()]
        looked = await env.call_tool("look", query="the table")
        last = await env.step(CallToolAction(tool_name="answer", arguments={"answer": "a1"}))
        return {
            "opened": opened.observation.text,
            "names": names,
            "looked": looked,
            "done": last.done,
            "reward": last.reward,
        }


async def main(url: str, sessions: int, episodes: int) -> None:
    played = await asyncio.gather(*(session(url, i, episodes) for i in range(sessions)))
    report = validate_running_environment(url)
    found = {
        "version": version("openenv"),
        "played": [one for seen in played for one in seen],
        "tools": await tools(url),
        "valid": report["passed"],
        "mode": report["mode"],
        "summary": report["summary"],
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
