"""Working ahead gives the same results, passes errors on, and ends."""

import threading

import pytest

from replay.prefetch import Prefetcher


@pytest.mark.parametrize("ahead", [0, 1, 2, 5])
def test_results_come_in_order_and_once(ahead):
  calls = []

  def function(index):
    calls.append(index)
    return 10 * index

  prefetcher = Prefetcher(function, ahead=ahead)
  prefetcher.schedule(0, 7)
  assert [prefetcher.take(index) for index in range(7)] == [10 * index for index in range(7)]
  assert calls == list(range(7))
  prefetcher.close()


def test_no_more_than_so_many_are_made_ahead():
  made = threading.Semaphore(0)
  calls = []

  def function(index):
    calls.append(index)
    made.release()
    return index

  prefetcher = Prefetcher(function, ahead=2)
  prefetcher.schedule(3, 10)
  for _ in range(2):
    made.acquire()
  assert not made.acquire(timeout=0.05)  # a third would have come by now
  assert calls == [3, 4]
  assert prefetcher.take(3) == 3
  made.acquire()
  assert calls == [3, 4, 5]
  prefetcher.close()


def test_the_work_is_done_in_another_thread_before_it_is_asked_for():
  threads, done = [], threading.Event()

  def function(_):
    threads.append(threading.current_thread())
    done.set()

  prefetcher = Prefetcher(function, ahead=1)
  prefetcher.schedule(0, 1)
  done.wait()
  assert threads[0] is not threading.current_thread()
  prefetcher.close()
  assert not threads[0].is_alive()


def test_cancelling_waits_for_a_running_call_and_drops_the_rest():
  started, finish, calls, after = threading.Event(), threading.Event(), [], []

  def function(index):
    calls.append(index)
    started.set()
    finish.wait()
    after.append(index)
    return index

  prefetcher = Prefetcher(function, ahead=2)
  prefetcher.schedule(0, 5)
  started.wait()
  threading.Timer(0.02, finish.set).start()
  prefetcher.cancel()
  assert after == [0]
  assert calls == [0]
  assert prefetcher.take(8) == 8  # not scheduled: made when asked for
  prefetcher.close()


def test_an_error_reaches_whoever_takes_the_result_and_no_one_else():
  fails = {2}

  def function(index):
    if index in fails:
      raise OSError(f"broken {index}")
    return index

  prefetcher = Prefetcher(function, ahead=2)
  prefetcher.schedule(0, 5)
  assert [prefetcher.take(0), prefetcher.take(1)] == [0, 1]
  with pytest.raises(OSError, match="broken 2"):
    prefetcher.take(2)
  fails.clear()
  assert [prefetcher.take(index) for index in (2, 3, 4)] == [2, 3, 4]
  fails.add(5)
  prefetcher.schedule(5, 6)
  prefetcher.schedule(6, 7)  # an error that nobody waits for is dropped with its index
  assert prefetcher.take(6) == 6
  prefetcher.close()
