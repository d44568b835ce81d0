//! Two edges of one control plane in front of one application, and callers at both.

use serde_json::Value;

use crate::client::Client;
use crate::control_plane::ControlPlane;
use crate::envoy::Envoy;
use crate::scene::Scene;
use crate::upstream::Upstream;
use crate::wait;

/// A control plane with a policy, two edges of it, and the application.
pub struct Stage {
    /// The control plane.
    pub control_plane: ControlPlane,
    /// An edge.
    pub one: Envoy,
    /// Another one.
    pub two: Envoy,
    /// The application.
    pub upstream: Upstream,
    /// The test's place. Last, so that the others are over before the next test's turn.
    pub scene: Scene,
}

impl Stage {
    /// Starts all of it, and waits until both edges have the policy.
    pub fn start(scene: Scene, policy: &Value) -> Self {
        let control_plane = ControlPlane::start(&scene);
        Self::with(scene, control_plane, policy)
    }

    /// As [`Stage::start`], with these variables in the control plane's environment.
    pub fn start_with(scene: Scene, environment: &[(&str, &str)], policy: &Value) -> Self {
        let control_plane = ControlPlane::start_with(&scene, environment);
        Self::with(scene, control_plane, policy)
    }

    fn with(scene: Scene, control_plane: ControlPlane, policy: &Value) -> Self {
        let upstream = Upstream::start();
        control_plane.apply(policy);
        let one = control_plane.edge(&scene, "one", upstream.port());
        let two = control_plane.edge(&scene, "two", upstream.port());
        Self { control_plane, one, two, upstream, scene }
    }

    /// Both edges.
    pub fn edges(&self) -> [&Envoy; 2] {
        [&self.one, &self.two]
    }

    /// A caller of each edge.
    pub fn clients(&self) -> [Client; 2] {
        self.edges().map(Envoy::client)
    }

    /// Waits until this is so at every worker of both edges. A connection stays with one worker, so several are tried.
    #[track_caller]
    pub fn wait_everywhere(&self, what: &str, look: impl Fn(&mut Client) -> bool) {
        wait::until(what, wait::SOON, || {
            let mut callers = self.edges().into_iter().flat_map(|edge| (0..16).map(|_| edge.client()));
            callers.all(|mut client| look(&mut client)).then_some(())
        });
    }

    /// Callers in parallel, in turn at one edge and the other, each with a connection of its own; answers what each did.
    pub fn in_parallel<T: Send>(
        &self,
        callers: usize,
        act: impl Fn(usize, &mut Client) -> T + Sync,
    ) -> Vec<T> {
        let (edges, act) = (self.edges(), &act);
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..callers)
                .map(|caller| {
                    let mut client = edges[caller % edges.len()].client();
                    scope.spawn(move || act(caller, &mut client))
                })
                .collect();
            callers.into_iter().map(|caller| caller.join().expect("a caller")).collect()
        })
    }

    /// Fails unless both edges run and none of their VMs has trapped.
    #[track_caller]
    pub fn assert_no_trap(&mut self) {
        self.one.assert_no_trap();
        self.two.assert_no_trap();
    }
}

/// How many of the statuses are this one.
pub fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|found| **found == status).count()
}
