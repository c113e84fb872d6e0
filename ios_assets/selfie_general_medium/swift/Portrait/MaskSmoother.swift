/// Steadier masks of a video: the previous mask counts where the new one nearly agrees with it around a pixel.
///
/// One for each video; `reach` is in pixels of the network.
public struct MaskSmoother {
    public let settings: SmoothSettings
    private var last: [Float] = []
    private var lastWidth = 0
    private var lastS: Double?

    public init(_ settings: SmoothSettings) {
        self.settings = settings
    }

    /// Smooths probabilities, rows of `width`. `timeS`: of the frame; after a gap, or a cut, it begins anew.
    public mutating func smooth(_ probability: [Float], width: Int, timeS: Double? = nil) -> [Float] {
        var smoothed = probability
        if last.count == probability.count && lastWidth == width && !isApart(timeS) {
            smoothed = mix(probability, width: width)
        }
        last = smoothed
        lastWidth = width
        lastS = timeS
        return smoothed
    }

    /// Forgets the previous frame: another video, another camera.
    public mutating func reset() {
        last = []
        lastS = nil
    }

    private func isApart(_ timeS: Double?) -> Bool {
        guard let now = timeS, let before = lastS else { return false }
        return now < before || now - before > settings.gapS
    }

    private func mix(_ probability: [Float], width: Int) -> [Float] {
        var distance = zip(last, probability).map { abs($0 - $1) }
        let mean = distance.reduce(0.0) { $0 + Double($1) } / Double(distance.count)
        if mean > Double(settings.cut) { return probability }
        distance = greatest(distance, width: width, height: probability.count / width)
        let scale = Float(1 / (Double(settings.high) - Double(settings.low)))
        return probability.indices.map { index in
            let weight = settings.keep * (1 - MaskMath.step((distance[index] - settings.low) * scale))
            return probability[index] + (last[index] - probability[index]) * weight
        }
    }

    /// The greatest distance within `reach` of each pixel, both ways.
    private func greatest(_ distance: [Float], width: Int, height: Int) -> [Float] {
        let reach = settings.reach
        var across = distance
        for y in 0..<height {
            for x in 0..<width {
                var found: Float = 0
                for i in max(0, x - reach)...min(width - 1, x + reach) { found = max(found, distance[y * width + i]) }
                across[y * width + x] = found
            }
        }
        var both = across
        for y in 0..<height {
            for x in 0..<width {
                var found: Float = 0
                for i in max(0, y - reach)...min(height - 1, y + reach) { found = max(found, across[i * width + x]) }
                both[y * width + x] = found
            }
        }
        return both
    }
}
