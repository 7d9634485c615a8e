//! Faces (protocol adapters): each reads its own dialect and answers in it. What is between is the pipeline's
//! ([`crate::delivery`]), the same for all; a face sees neither the stream nor the registry.

#[cfg(test)]
pub(crate) mod laws;
pub(crate) mod mattermost;
#[cfg(test)]
pub(crate) mod second;
pub(crate) mod v1;
