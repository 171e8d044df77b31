# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""`make demo`: build the lab, provision it with site.yml, stream an answer through the edge."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from lab_steps import LAB, PREPARATION, ROOT
from openai import OpenAI, Stream
from openai.types.chat import ChatCompletionChunk

NAME = "demo"
EDGE_PORT = 8080
MODEL = "gpt-oss-tiny"
QUESTION = "Count from one to ten."


class Demo:
    """The steps in order, each timed; a step that fails ends the demo with its own message."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.seconds: list[tuple[str, float]] = []

    def step(self, title: str, *command: str) -> None:
        """Run one command with its output on the screen, and keep its time."""
        print(f"\n== {title}", flush=True)
        begun = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, check=False)
        self.seconds.append((title, time.monotonic() - begun))
        if done.returncode != 0:
            print(f"\nStopped: '{title}' failed; its last lines above say why.", file=sys.stderr)
            raise SystemExit(done.returncode)

    def summary(self) -> None:
        """Print what every step took."""
        width = max(len(title) for title, _ in self.seconds)
        print("\n== Times, in seconds")
        for title, seconds in self.seconds:
            print(f"  {title:<{width}}  {seconds:6.1f}")
        print(f"  {'all':<{width}}  {time.monotonic() - self.started:6.1f}")


def output_of(*command: str) -> str:
    """What a command of the lab prints, without the line end."""
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def ask(client: OpenAI, max_tokens: int) -> Stream[ChatCompletionChunk]:
    """The question, as a stream of what the model says."""
    return client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=max_tokens,
        temperature=0,
        stream=True,
    )


def stream(url: str, key: str) -> int:
    """Ask the edge for a chat completion and print the tokens as they arrive; how many came."""
    client = OpenAI(base_url=f"{url}/v1", api_key=key)
    # The client loads its parsers at the first chunk, and meanwhile this short answer is all there.
    list(ask(client, max_tokens=1))
    begun = time.monotonic()
    answer = ask(client, max_tokens=48)
    arrivals: list[float] = []
    print(f"  you:       {QUESTION}", end="")
    speaking = ""
    for chunk in answer:
        delta = chunk.choices[0].delta if chunk.choices else None
        # vLLM's field for what a gpt-oss thinks before it answers.
        thought = getattr(delta, "reasoning", None)
        text = thought or (delta and delta.content)
        if text:
            arrivals.append(time.monotonic())
            speaker = "reasoning" if thought else "answer"
            if speaker != speaking:
                print(f"\n  {speaker + ':':<10}", end=" ")
                speaking = speaker
            print(text, end="", flush=True)
    if not arrivals:
        print("\nStopped: the edge answered without a single token.", file=sys.stderr)
        raise SystemExit(1)
    spread = arrivals[-1] - arrivals[0]
    print(
        f"\n  {len(arrivals)} pieces, the first after {arrivals[0] - begun:.2f} s, "
        f"the last {spread:.2f} s later"
    )
    return len(arrivals)


def main() -> None:
    demo = Demo()
    os.environ["VLLM_LAB"] = NAME
    for title, command in PREPARATION:
        demo.step(title, *command)
    demo.step("Start two GPU hosts and an edge host", *LAB, "up", NAME)
    demo.step(
        "Provision them: ansible-playbook playbooks/site.yml",
        str(ROOT / ".venv/bin/ansible-playbook"),
        "playbooks/site.yml",
        "--inventory",
        "inventories/demo",
    )
    url = f"http://{output_of(*LAB, 'address', NAME, 'edge1')}:{EDGE_PORT}"
    key = (ROOT / ".cache/demo-keys/edge_demo_key").read_text().strip()
    print(f"\n== A chat completion through {url}")
    stream(url, key)
    demo.step("What the lab uses", *LAB, "usage", NAME)
    demo.summary()
    print(f"""
== Next
  .venv/bin/ansible-playbook playbooks/status.yml            what runs where
  .venv/bin/ansible-playbook playbooks/site.yml --check --diff   what a second run changes: nothing
  curl -sN {url}/v1/chat/completions -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "{MODEL}", "stream": true,
         "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}'""")


if __name__ == "__main__":
    main()
