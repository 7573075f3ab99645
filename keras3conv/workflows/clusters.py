"""Connect to a Ray cluster, and write the shards of a transfer as tasks on it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from keras3conv import formats
from keras3conv.alignment.staging import Staging
from keras3conv.errors import FileError, InputError, Keras3ConvError, MissingExtra, message_of

RETRIES = 3
"""The number of times that a task is started again because its Ray worker was lost."""

Job = Callable[[], formats.Written]
"""A function without arguments that writes one shard of an output."""


def connected(address: str, purpose: str) -> Any:
    """Connect this process to a Ray cluster, and return the Python module `ray`.

    Args:
        address: The address of a cluster; "auto" for the cluster that runs on this machine, "local" for a new one.
        purpose: The feature that needs Ray, for the message if Ray is not installed.

    Raises:
        MissingExtra: Ray is not installed.
        InputError: There is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtra(purpose, "ray") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        fix = "Fix:  ray start --head     or     --ray-address local"
        raise InputError(f"there is no Ray cluster at {address}: {error}\n{fix}") from error
    return ray


@dataclass(frozen=True)
class ShardsOnRay:
    """Writes the shards of a file as Ray tasks, on machines that see the same files under the same paths.

    Attributes:
        ray: The module of Ray, connected.
        staging: The values to write. It also counts values that are not finite; those that the tasks find are added to
            the counts.
    """

    ray: Any
    staging: Staging

    def __call__(self, jobs: Sequence[Job]) -> list[formats.Written]:
        """Run all jobs and return their results in order; if one fails, the others are cancelled.

        Raises:
            Keras3ConvError: A job failed.
            FileError: The worker of a job was lost again and again.
        """
        remote = self.ray.remote(num_cpus=1, max_retries=RETRIES, retry_exceptions=False)(_run_job)
        references = [remote.remote((job, self.staging)) for job in jobs]
        written = []
        try:
            for reference in references:
                made, not_finite = self.ray.get(reference)
                self.staging.not_finite.update(not_finite)
                written.append(made)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Keras3ConvError | OSError):
                raise error.cause from error
            raise
        except self.ray.exceptions.RayError as error:
            first = message_of(error).strip().partition("\n")[0]
            raise FileError(
                f"Ray lost a worker that wrote a shard, again and again; start the transfer again: "
                f"{type(error).__name__}: {first}"
            ) from error
        finally:
            for reference in references[len(written) :]:
                self.ray.cancel(reference, force=True)
        return written


def _run_job(task: tuple[Job, Staging]) -> tuple[formats.Written, dict[str, int]]:
    """Write a shard in a Ray worker; return the file, and for each tensor the number of values that are not finite.

    Args:
        task: The job, and the staging (the values to write) that it reads. They are one argument because Ray copies
            each argument separately: the job would read another copy of the staging.
    """
    job, staging = task
    return job(), dict(staging.not_finite)


@contextmanager
def shards_on_ray(address: str, staging: Staging) -> Iterator[ShardsOnRay]:
    """Yield a function that writes shards on a Ray cluster; the connection is closed when the `with` block ends.

    Args:
        address: The address of the cluster; "auto" for the one that runs on this machine, "local" for a new one.
        staging: The values to write.
    """
    ray = connected(address, "shards on Ray")
    try:
        yield ShardsOnRay(ray, staging)
    finally:
        ray.shutdown()
