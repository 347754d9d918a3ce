//! Every way in which a peer can lie, or something between it and us.

/// What can be wrong with a peer, or between it and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::peer::follow) enum Lie {
    // Of the peer.
    ForkSameSize,
    ForkLarger,
    ForkSmaller,
    WrongRoot,
    Rewind,
    // Of its heads.
    UnknownKey,
    BadSignature,
    GarbledHead,
    // Of tiles.
    GarbledCache,
    CorruptHashTiles,
    // Of streams.
    Missing,
    Repeated,
    Reordered,
    DoubledId,
    NoId,
    NoFrameEnd,
    NotUtf8,
    CarriageReturns,
    RetryZero,
    RetryHuge,
    GarbledStream,
    EndsAtOnce,
    Beyond,
    HeadTooEarly,
    CutFrames,
    // Of every answer.
    NoContent,
    NotFound,
    TooMany,
    Broken,
    RedirectSame,
    RedirectFile,
    WrongType,
    Stall,
    SlowBytes,
    CutBodies,
    Flood,
    // Of what it says of itself.
    NodeGarbage,
    OtherKey,
    // Of streams too, but it takes its time.
    Endless,
}

impl Lie {
    pub(in crate::peer::follow) const ALL: [Lie; 38] = {
        use Lie::*;
        [
            ForkSameSize,
            ForkLarger,
            ForkSmaller,
            WrongRoot,
            Rewind,
            UnknownKey,
            BadSignature,
            GarbledHead,
            GarbledCache,
            CorruptHashTiles,
            Missing,
            Repeated,
            Reordered,
            DoubledId,
            NoId,
            NoFrameEnd,
            NotUtf8,
            CarriageReturns,
            RetryZero,
            RetryHuge,
            GarbledStream,
            EndsAtOnce,
            Beyond,
            HeadTooEarly,
            CutFrames,
            NoContent,
            NotFound,
            TooMany,
            Broken,
            RedirectSame,
            RedirectFile,
            WrongType,
            Stall,
            SlowBytes,
            CutBodies,
            Flood,
            NodeGarbage,
            OtherKey,
        ]
    };

    /// Whether it proves or shows that the peer itself is wrong.
    pub(in crate::peer::follow) fn convicts(self) -> bool {
        self <= Lie::WrongRoot
    }
}
