/// Stretches a picture to another size as training did: by area where both sides shrink, else bilinearly.
///
/// Byte for byte what OpenCV's INTER_AREA gives; INTER_LINEAR in its 11-bit fixed point.
public func shrink(_ picture: Picture, width: Int, height: Int) -> Picture {
    if picture.width == width && picture.height == height { return picture }
    guard picture.width > width && picture.height > height else {
        return linear(picture, width: width, height: height)
    }
    if picture.width % width == 0 && picture.height % height == 0 {
        return wholeFactors(picture, width: width, height: height)
    }
    return area(picture, width: width, height: height)
}

/// Whole factors: integer sums. A factor of two rounds halves up, all others to the nearest even, as OpenCV does.
private func wholeFactors(_ picture: Picture, width: Int, height: Int) -> Picture {
    let factorX = picture.width / width
    let factorY = picture.height / height
    let scale = 1 / Float(factorX * factorY)
    let isTwo = factorX == 2 && factorY == 2
    var bytes = [UInt8](repeating: 0, count: 3 * width * height)
    for y in 0..<height {
        for x in 0..<width {
            for channel in 0..<3 {
                var sum = 0
                for v in 0..<factorY {
                    let row = (y * factorY + v) * picture.width
                    for u in 0..<factorX {
                        sum += Int(picture.pixels[3 * (row + x * factorX + u) + channel])
                    }
                }
                let value = isTwo ? Float((sum + 2) >> 2) : Float(sum) * scale
                bytes[3 * (y * width + x) + channel] = nearest(value)
            }
        }
    }
    return Picture(width: width, height: height, pixels: bytes)
}

private func area(_ picture: Picture, width: Int, height: Int) -> Picture {
    let columns = Cell.all(from: picture.width, to: width)
    let rows = Cell.all(from: picture.height, to: height)
    var sums = [Float](repeating: 0, count: 3 * width * height)
    var line = [Float](repeating: 0, count: 3 * width)
    for row in rows {
        for index in line.indices { line[index] = 0 }
        let begin = 3 * row.source * picture.width
        for column in columns {
            for channel in 0..<3 {
                let value = Float(picture.pixels[begin + 3 * column.source + channel])
                line[3 * column.target + channel] += value * column.weight
            }
        }
        let target = 3 * row.target * width
        for index in line.indices { sums[target + index] += line[index] * row.weight }
    }
    return Picture(width: width, height: height, pixels: sums.map(nearest))
}

private func linear(_ picture: Picture, width: Int, height: Int) -> Picture {
    let across = fixedTaps(from: picture.width, to: width, clampsFraction: true)
    let down = fixedTaps(from: picture.height, to: height, clampsFraction: false)
    var bytes = [UInt8](repeating: 0, count: 3 * width * height)
    for y in 0..<height {
        for x in 0..<width {
            for channel in 0..<3 {
                func mix(_ row: Int) -> Int {
                    let one = Int(picture.pixels[3 * (row * picture.width + across[x].first) + channel])
                    let other = Int(picture.pixels[3 * (row * picture.width + across[x].second) + channel])
                    return one * across[x].weight + other * across[x].otherWeight
                }
                let upper = (down[y].weight * (mix(down[y].first) >> 4)) >> 16
                let lower = (down[y].otherWeight * (mix(down[y].second) >> 4)) >> 16
                bytes[3 * (y * width + x) + channel] = UInt8(min(max((upper + lower + 2) >> 2, 0), 255))
            }
        }
    }
    return Picture(width: width, height: height, pixels: bytes)
}

private func nearest(_ value: Float) -> UInt8 {
    UInt8(min(max(value.rounded(.toNearestOrEven), 0), 255))
}

/// Two neighbours and their weights, of 2048.
private struct Tap {
    let first: Int
    let second: Int
    let weight: Int
    let otherWeight: Int
}

private func fixedTaps(from: Int, to: Int, clampsFraction: Bool) -> [Tap] {
    let scale = Double(from) / Double(to)
    return (0..<to).map { index in
        let at = Float((Double(index) + 0.5) * scale - 0.5)
        var left = Int(at.rounded(.down))
        var fraction = at - at.rounded(.down)
        if clampsFraction && (left < 0 || left >= from - 1) {
            left = min(max(left, 0), from - 1)
            fraction = 0
        }
        return Tap(
            first: min(max(left, 0), from - 1),
            second: min(max(left + 1, 0), from - 1),
            weight: Int(((1 - fraction) * 2048).rounded(.toNearestOrEven)),
            otherWeight: Int((fraction * 2048).rounded(.toNearestOrEven))
        )
    }
}
