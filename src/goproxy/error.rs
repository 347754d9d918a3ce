//! What can become of a fetch, as far as callers decide by it.

/// Why something could not be fetched. Every text is one sentence without credentials, fit for a build's log.
///
/// It is `Clone` because requests for one thing are joined: all who wait get the same answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Every proxy that was asked said 404 or 410. It may exist tomorrow.
    #[error("{0}")]
    NotFound(String),
    /// An answer such as 403: nothing that time heals, and no proof that the thing does not exist.
    #[error("{detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Who refused what, in the proxy's words.
        detail: String,
    },
    /// The list of proxies says `off`.
    #[error("this node asks no module proxy (goproxy is \"off\"), so only exact versions mean something to it")]
    Off,
    /// Only version control could have it (`direct`).
    #[error("{0}")]
    Unsupported(String),
    /// The body is larger than its kind may be.
    #[error("{path} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What was asked for.
        path: String,
        /// In bytes.
        limit: u64,
    },
    /// What came is not what the checksum database vouches for, or the database contradicts itself.
    #[error("security error: {0}")]
    Security(String),
    /// Network, overload, garbage: it may work later.
    #[error("{0}")]
    Temporary(String),
}

impl FetchError {
    /// Whether the proxies said that there is no such thing (404, 410).
    pub fn is_not_found(&self) -> bool {
        matches!(self, FetchError::NotFound(_))
    }
}
