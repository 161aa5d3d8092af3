//! Several processes at once: what they launch and copy together.

use anyhow::{Context, Result};

use super::Run;
use super::paired::Side;
use super::sides::Sides;
use crate::client::Client;
use crate::series::{Series, Unit};
use crate::solo::{Done, Order};

pub(super) const WHAT: &str = "1 to 16 processes at once: launches per second and bandwidth of pinned copies to the device, of all together";

const COUNTS: [usize; 5] = [1, 2, 4, 8, 16];
const MOST: usize = COUNTS[COUNTS.len() - 1];
/// More rounds would take long and say little more.
const MOST_ROUNDS: usize = 7;

pub(super) fn measure(run: &mut Run<'_>, sides: &Sides) -> Result<()> {
    let arguments = run.arguments;
    let milliseconds = if arguments.effort().quick { 200 } else { 500 };
    for round in 0..arguments.rounds.min(MOST_ROUNDS) {
        // Starting them takes longer than what is measured, so all of both sides are there, and the others do nothing.
        let start = |side| {
            let clients = (0..MOST).map(|_| sides.client(side)).collect::<Result<Vec<Client>>>()?;
            Ok((side, clients))
        };
        let mut both =
            super::order(round).into_iter().map(start).collect::<Result<Vec<(Side, Vec<Client>)>>>()?;
        for client in both.iter_mut().flat_map(|(_, clients)| clients) {
            client.started()?;
        }
        for count in COUNTS {
            for (side, clients) in &mut both {
                let clients = clients.get_mut(..count).context("so many processes")?;
                let launches = together(clients, Order::Launch { milliseconds })?;
                let bytes = together(clients, Order::Copy { milliseconds })?;
                let name = |what| format!("processes/{what}/{count}");
                run.results.add(*side, Series::new(name("launches"), Unit::PerSecond, vec![launches]));
                run.results.add(*side, Series::new(name("copies"), Unit::BytesPerSecond, vec![bytes]));
            }
        }
        let mut clients: Vec<Client> = both.into_iter().flat_map(|(_, clients)| clients).collect();
        clients.iter_mut().for_each(Client::dismiss);
        clients.into_iter().try_for_each(Client::end)?;
        run.end_round()?;
    }
    Ok(())
}

/// What all do together in a second, while any of them works.
fn together(clients: &mut [Client], order: Order) -> Result<f64> {
    for client in clients.iter_mut() {
        client.tell(&order)?;
    }
    let done = clients.iter_mut().map(Client::answer).collect::<Result<Vec<Done>>>()?;
    let begin = done.iter().map(|done| done.begin).min().context("no processes")?;
    let end = done.iter().map(|done| done.end).max().context("no processes")?;
    let amount: f64 = done.iter().map(|done| done.amount).sum();
    Ok(amount / (end.saturating_sub(begin).max(1) as f64 / 1e9))
}
