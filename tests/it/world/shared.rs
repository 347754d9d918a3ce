//! One node for all tests that only ask it for things nobody else asks for.

use std::sync::OnceLock;

use super::{Modules, Node, Setup};

/// A node that runs until the test program ends, and the modules that it builds from.
pub(crate) struct Shared {
    pub modules: Modules,
    pub node: Node,
    pub setup: Setup,
}

/// The shared node. A test that uses it publishes modules under names of its own.
pub(crate) fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let modules = Modules::start();
        let setup = Setup::warm(&modules).with("lookup-wait = \"2m\"\n");
        let node = setup.start();
        Shared { modules, node, setup }
    })
}
