//! A serving control plane: the listener, the tasks in the background, and how they end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::api::{self, Api};
use crate::service::ControlPlane;
use crate::service::analytics::background::Background;
use crate::service::jwks::Fetcher;
use crate::service::moments::Moments;
use crate::service::sweeper::Sweeper;
use crate::service::usage::retention::Keeper;
use crate::service::usage::sink::Sink;

/// How long requests may still take when the process ends.
const DRAIN: Duration = Duration::from_secs(10);

/// A control plane that serves. Stopped by [`Server::stop`]; dropped, it goes on in the background.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    done: JoinHandle<()>,
}

impl Server {
    /// Serves `plane` on `listener`.
    pub fn start(plane: Arc<ControlPlane>, listener: TcpListener, fetcher: Fetcher) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let sink = plane.settings.usage.sink.clone().map(Sink::new).transpose()?;
        let done = tokio::spawn(run(plane, listener, fetcher, sink, stopped));
        Ok(Self { address, stop, done })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, ends long polls, lets other requests finish, and closes the database.
    pub async fn stop(self) {
        // Fails only when everything has ended already.
        let _ = self.stop.send(true);
        if let Err(error) = self.done.await {
            tracing::error!(error = &error as &dyn std::error::Error, "the server ended badly");
        }
    }
}

async fn run(
    plane: Arc<ControlPlane>,
    listener: TcpListener,
    fetcher: Fetcher,
    sink: Option<Sink>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    let (poller, poller_stopped) = (plane.clone(), stopped.clone());
    tasks.spawn(async move { poller.run_poller(poller_stopped).await });
    let (sweeper, sweeper_stopped) = (plane.clone(), stopped.clone());
    tasks.spawn(async move { Sweeper::default().run(&sweeper, sweeper_stopped).await });
    let (analytics, analytics_stopped) = (plane.clone(), stopped.clone());
    tasks.spawn(async move { Background.run(&analytics, analytics_stopped).await });
    let (moments, moments_stopped) = (plane.clone(), stopped.clone());
    tasks.spawn(async move { Moments.run(&moments, moments_stopped).await });
    let (follower, follower_stopped) = (plane.clone(), stopped.clone());
    tasks.spawn(async move { follower.run_fetcher(fetcher, follower_stopped).await });
    let (keeper, keeper_stopped) = (plane.clone(), stopped.clone());
    tasks.spawn(async move { Keeper::default().run(&keeper, keeper_stopped).await });
    if let Some(sink) = sink {
        let (sender, sender_stopped) = (plane.clone(), stopped.clone());
        tasks.spawn(async move { sink.run(&sender, sender_stopped).await });
    }

    let (sender, sender_stopped) = (plane.clone(), stopped.clone());
    tasks.spawn(async move { sender.run_sender(sender_stopped).await });

    let (payments, payments_stopped) = (plane.clone(), stopped.clone());
    tasks.spawn(async move { payments.run_webhooks(payments_stopped).await });

    let router = api::router(Api { plane: plane.clone(), stopped: stopped.clone() });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let mut ended = stopped.clone();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async move {
        // An error means that the sender is gone, and nobody can stop us any more; then we go on.
        if ended.wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    let bound = async move {
        if stopped.wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving.into_future() => if let Err(error) = served {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot serve");
        },
        () = bound => tracing::warn!("some requests did not end in time"),
    }
    while tasks.join_next().await.is_some() {}
    plane.database.close().await;
}
