#if canImport(Vision)
import CoreGraphics
import Foundation
import ImageIO

extension Matte {
    /// Alpha of the photo that was segmented, at its own size, upright: rows from the top, without stray pieces.
    public func alpha(
        of photo: CGImage, orientation: CGImagePropertyOrientation, spec: ModelSpec
    ) throws -> [Float] {
        try alpha(of: picture(of: turned(photo, orientation: orientation)), spec: spec)
    }

    /// The person alone, upright; the background is transparent.
    public func cutout(
        of photo: CGImage, orientation: CGImagePropertyOrientation, spec: ModelSpec
    ) throws -> CGImage {
        let upright = try picture(of: turned(photo, orientation: orientation))
        let alpha = self.alpha(of: upright, spec: spec)
        var bytes = [UInt8]()
        bytes.reserveCapacity(4 * alpha.count)
        for i in alpha.indices {
            bytes.append(contentsOf: upright.pixels[3 * i..<3 * i + 3])
            bytes.append(MaskMath.toByte(alpha[i]))
        }
        guard let space = CGColorSpace(name: CGColorSpace.sRGB),
            let provider = CGDataProvider(data: Data(bytes) as CFData),
            let image = CGImage(
                width: upright.width, height: upright.height, bitsPerComponent: 8, bitsPerPixel: 32,
                bytesPerRow: 4 * upright.width, space: space,
                bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.last.rawValue), provider: provider, decode: nil,
                shouldInterpolate: true, intent: .defaultIntent
            )
        else { throw PortraitError(description: "no memory for a cut-out") }
        return image
    }

    private func alpha(of upright: Picture, spec: ModelSpec) -> [Float] {
        let rough = EdgeRefiner(spec.refine).apply(coefficients, to: upright)
        return clean(rough, width: upright.width, specks: spec.refine.specks, holes: spec.refine.holes)
    }
}
#endif
