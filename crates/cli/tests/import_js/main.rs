//! `tinyraftplus import-js` against logs that the JavaScript package wrote: `fixtures/js-logs`.

#![expect(clippy::unwrap_used, reason = "tests")]

mod command;
mod damage;
mod doubt;
mod fixtures;
mod limits;
mod names;
mod node;
mod reading;
