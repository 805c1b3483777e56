"""A game as an OpenEnv server, for another Python that has the package: ``openenv_guess.py PORT``."""

import random
import sys

import uvicorn
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State


class Guess(Action):
    number: int


class Said(Observation):
    said: str


class Game(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed=None, episode_id=None, **kwargs):
        self.secret, self.guesses = random.Random(seed).randint(1, 9), 0
        return Said(said="Guess my number, 1 to 9.")

    def step(self, action, timeout_s=None, **kwargs):
        self.guesses += 1
        if action.number == 0:
            raise RuntimeError("zero is out of bounds")
        if action.number == self.secret:
            return Said(said="yes", done=True, reward=1.0)
        return Said(said="higher" if action.number < self.secret else "lower", reward=-0.25)

    @property
    def state(self):
        return State(step_count=self.guesses)


if __name__ == "__main__":
    app = create_fastapi_app(Game, Guess, Said, max_concurrent_envs=64)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
