//! The field report's "occasional 503": what requests and new watches got while an apiserver was dead. Figures; it decides nothing.
//!
//! ```text
//! 70 asked for meanwhile, 11 answered with 503, 2 not within 3 s        ->  70, 11, 2
//! two ports of one client on its way to one port of the gateway         ->  client connections 2
//! ```

use super::Figure;
use super::cures::{answered_in_time, asked, connections};
use super::facts::Facts;
use super::streams::{deaths, streams};
use crate::timeline::Shape;

/// How many there were, and how many of them failed, by 503 and otherwise; and the most connections that the clients of a lane had: with one,
/// their port never changed.
pub(super) fn sporadic(facts: &Facts<'_>) -> [Figure; 4] {
    let (all, deaths) = (streams(facts, facts.gateway), deaths(facts));
    let kinds = deaths.iter().flat_map(|death| [(death, Shape::Request), (death, Shape::NewWatch)]);
    let meanwhile: Vec<_> =
        kinds.flat_map(|(death, shape)| asked(&all, shape, death, &facts.bounds)).map(|(_, it)| it).collect();
    let failed: Vec<_> = meanwhile.iter().filter(|it| !answered_in_time(it, &facts.bounds)).collect();
    let unavailable = failed.iter().filter(|it| it.answered.is_some_and(|answered| answered.status == 503)).count();
    [
        Figure::count("asked for meanwhile", meanwhile.len()),
        Figure::count("answered with 503", unavailable),
        Figure::count("failed otherwise", failed.len() - unavailable),
        Figure::count("client connections", connections(&all)),
    ]
}
