"""PilotExecutor is a concurrent.futures.Executor: what works with a process pool works with pilots."""

from concurrent.futures import Executor, ProcessPoolExecutor, as_completed

from pilot import PilotDescription, PilotExecutor, PilotManager


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def primes_below(limit: int, executor: Executor) -> int:
    return sum(executor.map(is_prime, range(limit)))


with ProcessPoolExecutor(2) as pool:
    print("a process pool finds", primes_below(2000, pool), "primes")

with PilotManager() as manager:
    manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2))
    with PilotExecutor(manager) as executor:
        print("a pilot finds", primes_below(2000, executor))
        futures = [executor.submit(is_prime, number) for number in (97, 98, 99)]
        print("as they finish:", sorted(future.result() for future in as_completed(futures)))
