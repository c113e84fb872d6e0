/// A mask that follows the photo's own edges: the fast guided filter with a colour guide.
///
/// `alpha = r · red + g · green + b · blue + rest`, colours in [0, 1], four numbers a pixel of a small picture which is
/// stretched to the photo.
public struct EdgeRefiner {
    public let settings: RefineSettings

    public init(_ settings: RefineSettings) {
        self.settings = settings
    }

    /// Four numbers a pixel: of red, green, blue, and what is added.
    public struct Coefficients {
        public let width: Int
        public let height: Int
        public var values: [Float]
    }

    /// What makes the refined matte of the photo's pixels.
    ///
    /// - Parameters:
    ///   - input: what the network saw.
    ///   - probability: what it said, of the same size.
    public func coefficients(input: Picture, probability: [Float]) -> Coefficients {
        precondition(probability.count == input.width * input.height, "\(probability.count) probabilities")
        let longer = max(input.width, input.height)
        let width = MaskMath.guideSize(input.width, longer: longer, side: settings.side)
        let height = MaskMath.guideSize(input.height, longer: longer, side: settings.side)
        let guide = shrink(input, width: width, height: height).pixels.map { Float($0) / 255 }
        let target = shrinkPlane(
            probability, from: (width: input.width, height: input.height), to: (width: width, height: height)
        )
        let size = width * height
        var planes = products(guide: guide, target: target, size: size)
        for index in planes.indices { planes[index] = box(planes[index], width: width, height: height) }
        for index in 0..<size { solve(&planes, index) }
        var found = Coefficients(width: width, height: height, values: [Float](repeating: 0, count: 4 * size))
        for plane in 0..<4 {
            let mean = box(planes[plane], width: width, height: height)
            for index in 0..<size { found.values[4 * index + plane] = mean[index] }
        }
        if settings.specks > 0 { dropSpecks(&found, guide: guide) }
        return found
    }

    /// Coefficients and the photo at its own size → shaped matte in [0, 1], rows from the top.
    public func apply(_ found: Coefficients, to photo: Picture) -> [Float] {
        let across = Stretch(from: found.width, to: photo.width)
        let down = Stretch(from: found.height, to: photo.height)
        var alpha = [Float](repeating: 0, count: photo.width * photo.height)
        for y in 0..<photo.height {
            let top = down.first[y] * found.width
            let bottom = down.second[y] * found.width
            let fy = down.fraction[y]
            for x in 0..<photo.width {
                let fx = across.fraction[x]
                func mix(_ channel: Int) -> Float {
                    let a = found.values[4 * (top + across.first[x]) + channel]
                    let b = found.values[4 * (top + across.second[x]) + channel]
                    let c = found.values[4 * (bottom + across.first[x]) + channel]
                    let d = found.values[4 * (bottom + across.second[x]) + channel]
                    return (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy
                }
                let at = y * photo.width + x
                var sum = mix(3)
                for channel in 0..<3 { sum += mix(channel) * Float(photo.pixels[3 * at + channel]) / 255 }
                alpha[at] = MaskMath.shape(min(max(sum, 0), 1), low: settings.low, high: settings.high)
            }
        }
        return alpha
    }

    /// Red, green, blue, target; their products with the target; rr, rg, rb, gg, gb, bb.
    private func products(guide: [Float], target: [Float], size: Int) -> [[Float]] {
        let pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
        var planes = [[Float]](repeating: [Float](repeating: 0, count: size), count: 13)
        planes[3] = target
        for index in 0..<size {
            for channel in 0..<3 {
                let value = guide[3 * index + channel]
                planes[channel][index] = value
                planes[4 + channel][index] = value * target[index]
            }
            for (pair, channels) in pairs.enumerated() {
                planes[7 + pair][index] = guide[3 * index + channels.0] * guide[3 * index + channels.1]
            }
        }
        return planes
    }

    /// (variance + epsilon · 1)⁻¹ · covariance by the adjugate of the symmetric 3×3; the result lies in planes 0 to 3.
    private func solve(_ planes: inout [[Float]], _ i: Int) {
        let epsilon = settings.epsilon
        let (r, g, b, mean) = (planes[0][i], planes[1][i], planes[2][i], planes[3][i])
        let x = planes[4][i] - r * mean
        let y = planes[5][i] - g * mean
        let z = planes[6][i] - b * mean
        let rr = planes[7][i] - r * r + epsilon
        let rg = planes[8][i] - r * g
        let rb = planes[9][i] - r * b
        let gg = planes[10][i] - g * g + epsilon
        let gb = planes[11][i] - g * b
        let bb = planes[12][i] - b * b + epsilon
        let c00 = gg * bb - gb * gb
        let c01 = rb * gb - rg * bb
        let c02 = rg * gb - rb * gg
        let c11 = rr * bb - rb * rb
        let c12 = rg * rb - rr * gb
        let c22 = rr * gg - rg * rg
        let determinant = rr * c00 + rg * c01 + rb * c02
        let red = (c00 * x + c01 * y + c02 * z) / determinant
        let green = (c01 * x + c11 * y + c12 * z) / determinant
        let blue = (c02 * x + c12 * y + c22 * z) / determinant
        planes[0][i] = red
        planes[1][i] = green
        planes[2][i] = blue
        planes[3][i] = mean - (red * r + green * g + blue * b)
    }

    /// Mean over windows of (2 radius + 1)²; beyond the edge its pixels are repeated.
    private func box(_ plane: [Float], width: Int, height: Int) -> [Float] {
        let radius = settings.radius
        let area = Double((2 * radius + 1) * (2 * radius + 1))
        var across = [Double](repeating: 0, count: plane.count)
        for y in 0..<height {
            for x in 0..<width {
                var sum = 0.0
                for i in -radius...radius { sum += Double(plane[y * width + min(max(x + i, 0), width - 1)]) }
                across[y * width + x] = sum
            }
        }
        var found = plane
        for y in 0..<height {
            for x in 0..<width {
                var sum = 0.0
                for i in -radius...radius { sum += across[min(max(y + i, 0), height - 1) * width + x] }
                found[y * width + x] = Float(sum / area)
            }
        }
        return found
    }

    private func dropSpecks(_ found: inout Coefficients, guide: [Float]) {
        let size = found.width * found.height
        let mask = (0..<size).map { index -> Bool in
            var alpha = found.values[4 * index + 3]
            for channel in 0..<3 { alpha += found.values[4 * index + channel] * guide[3 * index + channel] }
            return MaskMath.isPerson(probability: alpha)
        }
        let isSpeck = smallPieces(
            of: mask, width: found.width, share: settings.specks, neighbours: .eight
        )
        guard isSpeck.contains(true) else { return }
        let near = grown(isSpeck, width: found.width, radius: settings.radius)
        // what is kept keeps its own seam
        let kept = grown(zip(mask, isSpeck).map { $0 && !$1 }, width: found.width, radius: 1)
        for index in 0..<size where near[index] && !kept[index] {
            for channel in 0..<4 { found.values[4 * index + channel] = 0 }
        }
    }
}

/// Shrinks probabilities: by area where both sides shrink, else bilinearly.
func shrinkPlane(
    _ plane: [Float], from: (width: Int, height: Int), to: (width: Int, height: Int)
) -> [Float] {
    if from == to { return plane }
    var found = [Float](repeating: 0, count: to.width * to.height)
    if to.width < from.width && to.height < from.height {
        let columns = Cell.all(from: from.width, to: to.width)
        for row in Cell.all(from: from.height, to: to.height) {
            for column in columns {
                let value = plane[row.source * from.width + column.source]
                found[row.target * to.width + column.target] += value * column.weight * row.weight
            }
        }
        return found
    }
    let across = Stretch(from: from.width, to: to.width)
    let down = Stretch(from: from.height, to: to.height)
    for y in 0..<to.height {
        for x in 0..<to.width {
            let top = down.first[y] * from.width
            let bottom = down.second[y] * from.width
            let fx = across.fraction[x]
            let upper = plane[top + across.first[x]] * (1 - fx) + plane[top + across.second[x]] * fx
            let lower = plane[bottom + across.first[x]] * (1 - fx) + plane[bottom + across.second[x]] * fx
            found[y * to.width + x] = upper * (1 - down.fraction[y]) + lower * down.fraction[y]
        }
    }
    return found
}
