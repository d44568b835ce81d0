//! Where views are rendered: on few threads of their own, for which few wait.

use tokio::sync::{Semaphore, oneshot};

use crate::api::problem::{Problem, ProblemKind};
use crate::service::views::STACK_BYTES;

/// Most renderings at a time. Each holds a connection while it asks the database: they are fewer than the connections to either
/// database, so that edges are served meanwhile.
const RENDERINGS_MAX: usize = 3;

/// Most requests that wait for a rendering to end; further ones are refused.
const WAITING_MAX: usize = 64;

/// The renderings of this process.
pub static RENDERINGS: Renderings = Renderings::new(RENDERINGS_MAX, WAITING_MAX);

/// Renderings under way, and those that wait.
#[derive(Debug)]
pub struct Renderings {
    rendering: Semaphore,
    waiting: Semaphore,
}

impl Renderings {
    const fn new(rendering: usize, waiting: usize) -> Self {
        Self { rendering: Semaphore::const_new(rendering), waiting: Semaphore::const_new(waiting) }
    }

    /// Renders on a thread that may wait and has the stack for it. It counts until it ends, also where nobody waits for it any
    /// more: it cannot be stopped.
    pub async fn run<T: Send + 'static>(
        &'static self,
        render: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let Ok(place) = self.waiting.try_acquire() else {
            return Err(Problem::new(
                ProblemKind::Busy,
                "Too many views are asked for. Try again in a moment.",
            ));
        };
        // Nobody closes it.
        let permit = self.rendering.acquire().await;
        drop(place);
        let (done, rendered) = oneshot::channel();
        let thread = std::thread::Builder::new().name("view".to_owned()).stack_size(STACK_BYTES);
        let spawned = thread.spawn(move || {
            let made = render();
            drop(permit);
            // Where nobody waits for it, nobody misses it.
            drop(done.send(made));
        });
        if let Err(error) = spawned {
            tracing::error!(error = &error as &dyn std::error::Error, "no thread for a view");
            return Err(internal());
        }
        rendered.await.map_err(|_| {
            tracing::error!("a view ended badly");
            internal()
        })
    }
}

/// Something is wrong here.
pub fn internal() -> Problem {
    Problem::new(ProblemKind::Internal, "The control plane's log says what is wrong.")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    /// Starts a rendering that ends when it is told to.
    fn start(
        renderings: &'static Renderings,
    ) -> (tokio::task::JoinHandle<Result<(), Problem>>, Sender<()>, Receiver<()>) {
        let (end, ended) = channel::<()>();
        let (begin, begun) = channel();
        let rendering = renderings.run(move || {
            begin.send(()).unwrap();
            ended.recv().unwrap();
        });
        (tokio::spawn(rendering), end, begun)
    }

    fn begins(begun: &Receiver<()>) -> bool {
        begun.recv_timeout(Duration::from_millis(200)).is_ok()
    }

    fn code(result: Result<(), Problem>) -> String {
        result.err().map(|problem| problem.into_body().code).unwrap_or_default()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_rendering_counts_until_it_ends_though_nobody_waits_for_it() {
        static RENDERINGS: Renderings = Renderings::new(1, 1);
        let (first, end_first, begun) = start(&RENDERINGS);
        assert!(begins(&begun));
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let (second, end_second, begun) = start(&RENDERINGS);
        assert!(!begins(&begun), "the first one goes on");
        assert_eq!(code(RENDERINGS.run(|| ()).await), "busy", "one waits already");
        end_first.send(()).unwrap();
        assert!(begins(&begun));
        end_second.send(()).unwrap();
        assert_eq!(code(second.await.unwrap()), "");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_gives_up_waiting_leaves_the_place_to_others() {
        static RENDERINGS: Renderings = Renderings::new(1, 1);
        let (first, end, begun) = start(&RENDERINGS);
        assert!(begins(&begun));
        for _ in 0..3 {
            let (waiting, ..) = start(&RENDERINGS);
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(!waiting.is_finished(), "it has a place");
            waiting.abort();
            assert!(waiting.await.unwrap_err().is_cancelled());
        }
        end.send(()).unwrap();
        assert_eq!(code(first.await.unwrap()), "");
    }

    #[tokio::test]
    async fn a_rendering_that_panics_leaves_its_place_to_others() {
        static RENDERINGS: Renderings = Renderings::new(1, 1);
        let failed = RENDERINGS.run(|| -> () { panic!("as a test") }).await;
        assert_eq!(code(failed), "internal");
        assert_eq!(code(RENDERINGS.run(|| ()).await), "");
    }
}
