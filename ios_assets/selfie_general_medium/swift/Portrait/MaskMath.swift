/// What a probability means, everywhere the same: exactly one half is background. Nothing here is Apple's.
public enum MaskMath {
    public static func isPerson(probability: Float) -> Bool { probability > 0.5 }

    public static func isPerson(byte: UInt8) -> Bool { byte > 127 }

    /// The nearest of 0 to 255; of two as near, the lower, so that one half stays background.
    public static func toByte(_ probability: Float) -> UInt8 {
        UInt8((min(max(probability, 0), 1) * 255 - 0.5).rounded(.up))
    }

    /// Clears haze: 0 below `low`, 1 above `high`, the smooth step between. One half stays one half.
    public static func shape(_ alpha: Float, low: Float, high: Float) -> Float {
        if low <= 0 && high >= 1 { return alpha }
        return step((alpha - low) * Float(1 / (Double(high) - Double(low))))
    }

    /// The smooth step 3t² - 2t³ of t cut to 0 to 1.
    static func step(_ value: Float) -> Float {
        let t = min(max(value, 0), 1)
        return t * t * (3 - 2 * t)
    }

    /// Mean difference of two masks in steps of 1/255, and share of pixels on another side of one half.
    public static func difference(_ expected: [UInt8], _ found: [UInt8]) -> (mean: Float, flipped: Float) {
        precondition(expected.count == found.count, "masks of \(expected.count) and \(found.count) pixels")
        var total = 0
        var flipped = 0
        for (one, other) in zip(expected, found) {
            total += abs(Int(one) - Int(other))
            if isPerson(byte: one) != isPerson(byte: other) { flipped += 1 }
        }
        return (Float(total) / Float(expected.count), Float(flipped) / Float(expected.count))
    }

    /// The length of one side of the coefficients: the longer side shrunk to `side`, never stretched; halves to even.
    static func guideSize(_ length: Int, longer: Int, side: Int) -> Int {
        let exact = Double(length) * min(1, Double(side) / Double(longer))
        return max(1, Int(exact.rounded(.toNearestOrEven)))
    }
}

/// A picture in memory: RGB bytes, rows from the top.
public struct Picture: Equatable, Sendable {
    public let width: Int
    public let height: Int
    public var pixels: [UInt8]

    public init(width: Int, height: Int, pixels: [UInt8]) {
        precondition(width > 0 && height > 0 && pixels.count == 3 * width * height, "\(pixels.count) bytes")
        self.width = width
        self.height = height
        self.pixels = pixels
    }
}

/// Places between pixels: `to` pixels over `from`, bilinear, centres on centres, edges repeated.
struct Stretch {
    private(set) var first: [Int] = []
    private(set) var second: [Int] = []
    private(set) var fraction: [Float] = []

    init(from: Int, to: Int) {
        let scale = Double(from) / Double(to)
        for index in 0..<to {
            let at = Float((Double(index) + 0.5) * scale - 0.5)
            let left = at.rounded(.down)
            first.append(min(max(Int(left), 0), from - 1))
            second.append(min(max(Int(left) + 1, 0), from - 1))
            fraction.append(at - left)
        }
    }
}

/// Which source pixel makes which target pixel, and with what share of it.
struct Cell {
    let target: Int
    let source: Int
    let weight: Float

    /// Shares of area of `from` pixels in `to` fewer ones; what covers less than a thousandth of a pixel is left out.
    static func all(from: Int, to: Int) -> [Cell] {
        let scale = Double(from) / Double(to)
        var found: [Cell] = []
        for index in 0..<to {
            let begin = Double(index) * scale
            let end = begin + scale
            let width = min(scale, Double(from) - begin)
            let last = min(Int(end.rounded(.down)), from - 1)
            let first = min(Int(begin.rounded(.up)), last)
            if Double(first) - begin > 1e-3 {
                found.append(Cell(target: index, source: first - 1, weight: Float((Double(first) - begin) / width)))
            }
            for source in first..<last {
                found.append(Cell(target: index, source: source, weight: Float(1 / width)))
            }
            if end - Double(last) > 1e-3 {
                let share = min(min(end - Double(last), 1), width) / width
                found.append(Cell(target: index, source: last, weight: Float(share)))
            }
        }
        return found
    }
}
