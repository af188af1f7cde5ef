//! Who scans what.

use super::types::{Assignment, LENSES, Lens};

/// Most turns of one share, so that a long stream is scanned by several agents at once and a share's memory
/// stays small.
const SHARE_TURNS: usize = 500;
/// The same where a model is asked: a share must be done within its node's time limit, and what a sweep that is cut off
/// has paid for is kept by the share.
const ASKED_SHARE_TURNS: usize = 50;

/// What all shares of a sweep have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The last read pass.
    pub as_of: i64,
    /// The time at which turns are due; none where all are looked at.
    pub due_ms: Option<i64>,
    /// Whether models are asked.
    pub asks_models: bool,
}

/// A stream with pending turns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PendingStream {
    /// Row in the patrol store.
    pub row: i64,
    /// Its name.
    pub name: String,
    /// Rows of its pending turns, ascending.
    pub turn_rows: Vec<i64>,
    /// Pheromone level.
    pub pheromone: f64,
}

/// Number of patrol agents for `streams` log streams: ⌈1 + log₂(n)⌉, none for none.
pub fn agent_count(streams: usize) -> usize {
    match streams {
        0 => 0,
        // ⌈log₂(n)⌉ of a power of two is its exponent; of anything else one more than that of its floor.
        n => 1 + n.next_power_of_two().trailing_zeros() as usize,
    }
}

/// Shares the pending turns out: streams with the strongest pheromone first, then the longest; agents and
/// lenses in turn.
pub(super) fn assign(mut streams: Vec<PendingStream>, terms: Terms) -> Vec<Assignment> {
    let agents = agent_count(streams.len());
    streams.sort_by(|a, b| {
        b.pheromone
            .total_cmp(&a.pheromone)
            .then_with(|| b.turn_rows.len().cmp(&a.turn_rows.len()))
            .then_with(|| a.name.cmp(&b.name))
    });
    let most = if terms.asks_models { ASKED_SHARE_TURNS } else { SHARE_TURNS };
    let mut assignments = Vec::new();
    for stream in &streams {
        for rows in stream.turn_rows.chunks(most) {
            let (Some(from), Some(to)) = (rows.first(), rows.last()) else { continue };
            let turn = assignments.len();
            assignments.push(Assignment {
                agent: format!("log_patrol_{}", turn % agents.max(1)),
                lens: lens_of(turn),
                stream: stream.name.clone(),
                stream_row: stream.row,
                from: *from,
                to: *to,
                as_of: terms.as_of,
                due_ms: terms.due_ms,
                turns: rows.len() as u64,
                pheromone: stream.pheromone,
            });
        }
    }
    assignments
}

/// The lens of the `index`th agent or further vote.
pub(super) fn lens_of(index: usize) -> Lens {
    LENSES.get(index % LENSES.len()).copied().unwrap_or(Lens::Credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str, turns: i64, pheromone: f64) -> PendingStream {
        PendingStream { row: 1, name: name.into(), turn_rows: (1..=turns).collect(), pheromone }
    }

    const RULES: Terms = Terms { as_of: 7, due_ms: None, asks_models: false };

    #[test]
    fn the_swarm_grows_with_the_logarithm() {
        let counts: Vec<usize> = [0, 1, 2, 3, 4, 5, 8, 9, 100, 1000].into_iter().map(agent_count).collect();
        assert_eq!(counts, [0, 1, 2, 3, 3, 4, 4, 5, 8, 11]);
    }

    #[test]
    fn suspicious_streams_come_first_and_long_ones_are_shared() {
        let shares = assign(vec![stream("a", 3, 0.0), stream("b", 1_200, 0.0), stream("c", 1, 0.8)], RULES);
        let names: Vec<&str> = shares.iter().map(|share| share.stream.as_str()).collect();
        assert_eq!(names, ["c", "b", "b", "b", "a"]);
        assert_eq!(shares.iter().map(|share| share.turns).sum::<u64>(), 1_204);
        assert_eq!((shares[2].from, shares[2].to), (501, 1_000));
        assert_eq!(shares[3].agent, "log_patrol_0");
        let asked = assign(vec![stream("b", 120, 0.0)], Terms { asks_models: true, ..RULES });
        assert_eq!(asked.iter().map(|share| share.turns).collect::<Vec<_>>(), [50, 50, 20]);
    }
}
