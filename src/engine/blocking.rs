//! Work that blocks, for node functions that read files or stores.

use super::{ErrorClass, NodeError};

/// Does work that blocks away from the event loop. A panic in it is an error of class [`ErrorClass::Panic`].
///
/// # Errors
/// Those of the work.
///
/// # Cancel safety
/// Work that has begun goes on to its end when the caller is dropped; what it gives is lost.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NodeError> + Send + 'static,
) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| NodeError::new(ErrorClass::Panic, error))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error() {
        assert_eq!(blocking(|| Ok(1)).await.unwrap(), 1);
        let error = blocking::<()>(|| panic!("off the rails")).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Panic);
        assert!(error.message.contains("off the rails"), "{}", error.message);
    }
}
