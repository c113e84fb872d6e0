/// What of the manifest the code needs; `PortraitModel.swift` is generated from it, by file.
public struct ModelSpec: Sendable {
    public let name: String
    public let width: Int
    public let height: Int
    /// The package's name without its extension: Xcode compiles it to `<resource>.mlmodelc`.
    public let resource: String
    public let input: String
    public let output: String
    public let goldenPortrait: String
    public let goldenMask: String
    /// Greatest mean difference from the golden mask in steps of 1/255, and share of pixels on another side of one half.
    public let meanSteps: Float
    public let flippedShare: Float
    public let refine: RefineSettings
    public let smooth: SmoothSettings

    public init(
        name: String, width: Int, height: Int, resource: String, input: String, output: String,
        goldenPortrait: String, goldenMask: String, meanSteps: Float, flippedShare: Float,
        refine: RefineSettings, smooth: SmoothSettings
    ) {
        self.name = name
        self.width = width
        self.height = height
        self.resource = resource
        self.input = input
        self.output = output
        self.goldenPortrait = goldenPortrait
        self.goldenMask = goldenMask
        self.meanSteps = meanSteps
        self.flippedShare = flippedShare
        self.refine = refine
        self.smooth = smooth
    }
}

/// The manifest's `refine`: see `EdgeRefiner`.
public struct RefineSettings: Sendable {
    public let side: Int
    public let radius: Int
    public let epsilon: Float
    public let low: Float
    public let high: Float
    public let specks: Float
    public let holes: Float

    public init(side: Int, radius: Int, epsilon: Float, low: Float, high: Float, specks: Float, holes: Float) {
        precondition(side >= 1 && radius >= 1 && epsilon > 0, "side \(side), radius \(radius), epsilon \(epsilon)")
        precondition(low >= 0 && low < 0.5 && abs(low + high - 1) < 1e-6, "low \(low), high \(high)")
        self.side = side
        self.radius = radius
        self.epsilon = epsilon
        self.low = low
        self.high = high
        self.specks = specks
        self.holes = holes
    }
}

/// The manifest's `smooth`: see `MaskSmoother`.
public struct SmoothSettings: Sendable {
    public let keep: Float
    public let low: Float
    public let high: Float
    public let reach: Int
    public let cut: Float
    public let gapS: Double

    public init(keep: Float, low: Float, high: Float, reach: Int, cut: Float, gapS: Double) {
        precondition(keep >= 0 && keep < 1 && low >= 0 && low < high && reach >= 0 && cut > 0 && gapS > 0)
        self.keep = keep
        self.low = low
        self.high = high
        self.reach = reach
        self.cut = cut
        self.gapS = gapS
    }
}
