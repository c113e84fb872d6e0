/// Which pixels count as connected.
enum Neighbours {
    case four
    case eight
}

/// Where the connected pieces of a mask lie that are smaller than a share of the picture.
func smallPieces(of mask: [Bool], width: Int, share: Float, neighbours: Neighbours) -> [Bool] {
    var found = [Bool](repeating: false, count: mask.count)
    guard share > 0 else { return found }
    let limit = Double(share) * Double(mask.count)
    let height = mask.count / width
    var isVisited = found
    for start in mask.indices where mask[start] && !isVisited[start] {
        var piece = [start]
        var next = 0
        isVisited[start] = true
        while next < piece.count {
            let (x, y) = (piece[next] % width, piece[next] / width)
            next += 1
            for v in max(0, y - 1)...min(height - 1, y + 1) {
                for u in max(0, x - 1)...min(width - 1, x + 1) where neighbours == .eight || u == x || v == y {
                    let at = v * width + u
                    if mask[at] && !isVisited[at] {
                        isVisited[at] = true
                        piece.append(at)
                    }
                }
            }
        }
        if Double(piece.count) < limit {
            for at in piece { found[at] = true }
        }
    }
    return found
}

/// All within `radius` of a mask, a square window.
func grown(_ mask: [Bool], width: Int, radius: Int) -> [Bool] {
    let height = mask.count / width
    var found = mask
    for at in mask.indices where mask[at] {
        let (x, y) = (at % width, at / width)
        for v in max(0, y - radius)...min(height - 1, y + radius) {
            for u in max(0, x - radius)...min(width - 1, x + radius) { found[v * width + u] = true }
        }
    }
    return found
}

/// Takes away, at the photo's own size, what a colour by chance made person or a hole; with their soft seams.
public func clean(_ alpha: [Float], width: Int, specks: Float, holes: Float) -> [Float] {
    let seam = 3
    let mask = alpha.map { MaskMath.isPerson(probability: $0) }
    let isSpeck = smallPieces(of: mask, width: width, share: specks, neighbours: .eight)
    let isHole = smallPieces(of: mask.map { !$0 }, width: width, share: holes, neighbours: .four)
    guard isSpeck.contains(true) || isHole.contains(true) else { return alpha }
    let nearSpeck = grown(isSpeck, width: width, radius: seam)
    let nearHole = grown(isHole, width: width, radius: seam)
    let nearKept = grown(zip(mask, isSpeck).map { $0 && !$1 }, width: width, radius: 1)
    return alpha.indices.map { at in
        // the soft outline of what stays is no seam of a speck
        if !mask[at] && !isHole[at] && nearKept[at] { return alpha[at] }
        var value = alpha[at]
        if nearSpeck[at] && (!mask[at] || isSpeck[at]) { value = 0 }
        if nearHole[at] && (mask[at] || isHole[at]) && !isSpeck[at] { value = 1 }
        return value
    }
}
