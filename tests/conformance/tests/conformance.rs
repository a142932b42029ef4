//! The conformance suite on the embedded store: in memory, and in a file.

mod in_memory {
    use std::sync::Arc;
    use std::time::Duration;

    use gusher::Clock;
    use gusher::store::Store;
    use gusher::store::sqlite::{Options, SqliteStore};

    async fn open(clock: Clock, lease: Duration) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(Options { lease, clock, ..Options::in_memory() }).unwrap())
    }

    gusher::testing::store_tests!(open);
}

mod in_a_file {
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::time::Duration;

    use gusher::Clock;
    use gusher::store::Store;
    use gusher::store::sqlite::{Options, SqliteStore};

    thread_local! {
        /// The folder of this test's store; each test has a thread of its own, with which the folder goes.
        static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
    }

    async fn open(clock: Clock, lease: Duration) -> Arc<dyn Store> {
        let folder = tempfile::tempdir().unwrap();
        let file = Options::new(folder.path().join("gusher.db"));
        FOLDER.set(Some(folder));
        // No case cuts the power, so none needs to wait for the disk.
        Arc::new(SqliteStore::open(Options { lease, clock, sync: false, ..file }).unwrap())
    }

    gusher::testing::store_tests!(open);
}
