pub(crate) use crate::memory::Args;
pub(crate) async fn run(_: Args) -> Result<(), crate::error::Error> { Ok(()) }
