//! Model tests: random workflows and random operations, with repeats, lost answers, dead workers and jumping clocks, on a store and
//! on a naive model (`naive.rs`, and `attempts.rs`, `growth.rs` and `repairs.rs` of it) side by side. What the store shows must be what the model says, after every single operation.

mod attempts;
mod batch;
mod chains;
mod children;
mod commands;
mod compare;
pub(crate) mod dice;
mod emit;
mod faults;
mod game;
mod growth;
mod mend;
mod naive;
mod plan;
mod repairs;
mod work;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use self::game::{Game, LEASE, Verdict};
use self::plan::Size;
use crate::clock::Clock;
use crate::store::Store;

/// Most games are small: that shows most differences, and many more of them can be played.
const SMALL: Size = Size { workflows: 1, steps: 4, jobs: 4, operations: 25 };
const LARGE: Size = Size { workflows: 3, steps: 6, jobs: 9, operations: 60 };
/// One game in so many is a large one.
const LARGE_EVERY: u64 = 8;

/// Plays a game for each seed on a store of its own. Fails with the first seed that shows a difference, the smallest game of that
/// seed that still does, and what was done in it.
pub fn play_seeds<F, Made>(seeds: impl IntoIterator<Item = u64>, factory: F) -> Result<u64, String>
where
    F: Fn(Clock, Duration) -> Made,
    Made: Future<Output = Arc<dyn Store>>,
{
    let mut played = 0;
    for seed in seeds {
        let size = if seed % LARGE_EVERY == 0 { LARGE } else { SMALL };
        if let Err(lost) = play_seed(seed, size, &factory) {
            return Err(smallest(seed, size, lost, &factory));
        }
        played += 1;
    }
    Ok(played)
}

/// What was wrong, and what was done before.
type Lost = (String, Vec<String>);

fn play_seed<F, Made>(seed: u64, size: Size, factory: &F) -> Result<(), Lost>
where
    F: Fn(Clock, Duration) -> Made,
    Made: Future<Output = Arc<dyn Store>>,
{
    let mut moves = Vec::new();
    let game = async {
        let clock = Clock::manual(1_800_000_000_000);
        let store = factory(clock.clone(), Duration::from_millis(LEASE as u64)).await;
        let mut game = Game::new(store, clock, seed, size).await?;
        let played = play(&mut game, size.operations).await;
        moves = std::mem::take(&mut game.moves);
        played
    };
    let played = catch_unwind(AssertUnwindSafe(|| futures::executor::block_on(game)));
    let played = played.unwrap_or_else(|panic| Err(format!("a panic: {}", crate::job::panic_text(panic.as_ref()))));
    played.map_err(|wrong| (wrong, moves))
}

async fn play(game: &mut Game, operations: usize) -> Verdict {
    for _ in 0..operations {
        game.play().await?;
    }
    game.finish().await
}

/// Makes a game that goes wrong smaller as long as it still does.
fn smallest<F, Made>(seed: u64, mut size: Size, mut lost: Lost, factory: &F) -> String
where
    F: Fn(Clock, Duration) -> Made,
    Made: Future<Output = Arc<dyn Store>>,
{
    loop {
        let Size { workflows, steps, jobs, operations } = size;
        let smaller = [
            Size { workflows: workflows - 1, ..size },
            Size { operations: operations / 2, ..size },
            Size { operations: operations.saturating_sub(1), ..size },
            Size { steps: steps - 1, ..size },
            Size { jobs: jobs / 2, ..size },
            Size { jobs: jobs - 1, ..size },
        ];
        let possible =
            smaller.into_iter().filter(|small| small.workflows * small.steps * small.jobs > 0 && *small != size);
        let found = possible.into_iter().find_map(|small| Some((small, play_seed(seed, small, factory).err()?)));
        let Some((small, still)) = found else { break };
        (size, lost) = (small, still);
    }
    format!("seed {seed}, {size:?}: {}\n{}", lost.0, lost.1.join("\n"))
}
