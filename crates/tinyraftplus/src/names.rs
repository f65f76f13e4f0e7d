//! Names of nodes.

use tinyraftplus_core::{NodeId, NodeIdError};

/// Something that names a node: a number, a text, or a [`NodeId`]. A number is its decimal digits, so `1` and `"1"` are
/// the same node, and `"01"` is another one.
///
/// ```
/// use tinyraftplus::{IntoNodeId, NodeId};
///
/// assert_eq!(1_u64.into_node_id(), "1".into_node_id());
/// assert_eq!("db-1.example.org:7000".into_node_id(), Ok(NodeId::new("db-1.example.org:7000").unwrap()));
/// assert!("no spaces".into_node_id().is_err());
/// ```
pub trait IntoNodeId {
    /// The name.
    ///
    /// # Errors
    ///
    /// If it can't be one: the text, and why.
    fn into_node_id(self) -> Result<NodeId, (String, NodeIdError)>;
}

impl IntoNodeId for NodeId {
    fn into_node_id(self) -> Result<NodeId, (String, NodeIdError)> {
        Ok(self)
    }
}

/// Names made from what they print as.
macro_rules! printed_names {
    ($($type:ty),*) => {$(
        impl IntoNodeId for $type {
            fn into_node_id(self) -> Result<NodeId, (String, NodeIdError)> {
                let name = self.to_string();
                NodeId::new(&name).map_err(|error| (name, error))
            }
        }
    )*};
}

printed_names!(u8, u16, u32, u64, usize, i32, i64, String, &String, &str);
