#if canImport(CoreML) && canImport(Vision)
import CoreGraphics
import CoreImage
import CoreML
import CoreVideo
import Foundation
import ImageIO

/// A photo of more pixels has no room beside its matte in an app's memory.
private let mostPixels = 100_000_000

func openModel(_ spec: ModelSpec, bundle: Bundle, configuration: MLModelConfiguration) throws -> MLModel {
    guard let url = bundle.url(forResource: spec.resource, withExtension: "mlmodelc") else {
        throw PortraitError(description: "\(spec.resource).mlmodelc: not in the bundle: add the .mlpackage to the target")
    }
    return try MLModel(contentsOf: url, configuration: configuration)
}

/// The golden portrait, and the mask that the file gave of it when it was exported.
struct GoldenVectors {
    let image: CGImage
    private let mask: [UInt8]
    private let spec: ModelSpec

    init(_ spec: ModelSpec, bundle: Bundle) throws {
        self.spec = spec
        image = try GoldenVectors.read(spec.goldenPortrait, bundle: bundle)
        let pixels = try picture(of: GoldenVectors.read(spec.goldenMask, bundle: bundle)).pixels
        mask = stride(from: 0, to: pixels.count, by: 3).map { pixels[$0] }
        guard image.width == spec.width, image.height == spec.height, mask.count == spec.width * spec.height else {
            throw PortraitError(description: "golden vectors of \(image.width)x\(image.height): another network's")
        }
    }

    func compare(with probability: [Float]) throws {
        let (mean, flipped) = MaskMath.difference(mask, probability.map(MaskMath.toByte))
        guard mean <= spec.meanSteps && flipped <= spec.flippedShare else {
            throw PortraitError(
                description: "\(spec.resource): its golden mask is wrong, \(mean) of 255 on average, "
                    + "\(100 * flipped) % of the pixels flipped"
            )
        }
    }

    private static func read(_ name: String, bundle: Bundle) throws -> CGImage {
        // Xcode flattens a group of files, and keeps a folder that is added by reference
        guard let url = bundle.url(forResource: name, withExtension: nil)
            ?? bundle.url(forResource: name, withExtension: nil, subdirectory: "golden"),
            let source = CGImageSourceCreateWithURL(url as CFURL, nil),
            let image = CGImageSourceCreateImageAtIndex(source, 0, nil)
        else { throw PortraitError(description: "\(name): not in the bundle: add the folder golden/ to the target") }
        return image
    }
}

/// RGB bytes of a picture, rows from the top, in sRGB.
func picture(of image: CGImage) throws -> Picture {
    guard image.width * image.height <= mostPixels else {
        throw PortraitError(description: "\(image.width)x\(image.height) pixels, at most \(mostPixels)")
    }
    let (width, height) = (image.width, image.height)
    var bytes = [UInt8](repeating: 0, count: 4 * width * height)
    let isDrawn = bytes.withUnsafeMutableBytes { memory -> Bool in
        guard let space = CGColorSpace(name: CGColorSpace.sRGB), let context = CGContext(
            data: memory.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
            space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue
        ) else { return false }
        context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
        return true
    }
    guard isDrawn else { throw PortraitError(description: "a picture of \(width)x\(height) that cannot be drawn") }
    var pixels = [UInt8]()
    pixels.reserveCapacity(3 * width * height)
    for at in stride(from: 0, to: bytes.count, by: 4) { pixels.append(contentsOf: bytes[at..<at + 3]) }
    return Picture(width: width, height: height, pixels: pixels)
}

private let context = CIContext(options: [.cacheIntermediates: false])

/// The photo upright.
func turned(_ photo: CGImage, orientation: CGImagePropertyOrientation) throws -> CGImage {
    if orientation == .up { return photo }
    let upright = CIImage(cgImage: photo).oriented(orientation)
    guard let image = context.createCGImage(upright, from: upright.extent) else {
        throw PortraitError(description: "a photo that cannot be turned upright")
    }
    return image
}

func smallPicture(of photo: CGImage, orientation: CGImagePropertyOrientation, spec: ModelSpec) throws -> Picture {
    shrink(try picture(of: turned(photo, orientation: orientation)), width: spec.width, height: spec.height)
}

/// A frame's small picture, the guide of refinement; scaled by Core Image, which a filter's guide tolerates.
func smallPicture(
    of frame: CVPixelBuffer, orientation: CGImagePropertyOrientation, spec: ModelSpec
) throws -> Picture {
    let upright = CIImage(cvPixelBuffer: frame).oriented(orientation)
    let scale = CGAffineTransform(
        scaleX: CGFloat(spec.width) / upright.extent.width, y: CGFloat(spec.height) / upright.extent.height
    )
    let small = upright.transformed(by: scale, highQualityDownsample: true)
    let frameOfSmall = CGRect(
        x: small.extent.minX, y: small.extent.minY, width: CGFloat(spec.width), height: CGFloat(spec.height)
    )
    guard let image = context.createCGImage(small, from: frameOfSmall) else {
        throw PortraitError(description: "a frame that cannot be scaled")
    }
    return try picture(of: image)
}

func makePool(_ spec: ModelSpec) throws -> CVPixelBufferPool {
    let attributes: [String: Any] = [
        kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA,
        kCVPixelBufferWidthKey as String: spec.width,
        kCVPixelBufferHeightKey as String: spec.height,
        kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any](),
    ]
    var pool: CVPixelBufferPool?
    CVPixelBufferPoolCreate(nil, nil, attributes as CFDictionary, &pool)
    guard let made = pool else { throw PortraitError(description: "no memory for pixel buffers") }
    return made
}

func makeBuffer(from pool: CVPixelBufferPool) throws -> CVPixelBuffer {
    var buffer: CVPixelBuffer?
    CVPixelBufferPoolCreatePixelBuffer(nil, pool, &buffer)
    guard let made = buffer else { throw PortraitError(description: "no memory for a pixel buffer") }
    return made
}

/// Writes RGB into a buffer of BGRA.
func write(_ picture: Picture, to buffer: CVPixelBuffer) throws {
    CVPixelBufferLockBaseAddress(buffer, [])
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    guard let base = CVPixelBufferGetBaseAddress(buffer) else {
        throw PortraitError(description: "a pixel buffer without memory")
    }
    let stride = CVPixelBufferGetBytesPerRow(buffer)
    for y in 0..<picture.height {
        let row = base.advanced(by: y * stride).assumingMemoryBound(to: UInt8.self)
        for x in 0..<picture.width {
            let at = 3 * (y * picture.width + x)
            row[4 * x] = picture.pixels[at + 2]
            row[4 * x + 1] = picture.pixels[at + 1]
            row[4 * x + 2] = picture.pixels[at]
            row[4 * x + 3] = 255
        }
    }
}

/// A mask of bytes as probabilities, rows from the top.
func probabilities(of buffer: CVPixelBuffer, spec: ModelSpec) throws -> [Float] {
    let (width, height) = (CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer))
    guard CVPixelBufferGetPixelFormatType(buffer) == kCVPixelFormatType_OneComponent8,
        width == spec.width, height == spec.height
    else { throw PortraitError(description: "\(spec.resource): a mask of \(width)x\(height), or not of bytes") }
    CVPixelBufferLockBaseAddress(buffer, .readOnly)
    defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
    guard let base = CVPixelBufferGetBaseAddress(buffer) else {
        throw PortraitError(description: "a mask without memory")
    }
    let stride = CVPixelBufferGetBytesPerRow(buffer)
    var found = [Float]()
    found.reserveCapacity(width * height)
    for y in 0..<height {
        let row = base.advanced(by: y * stride).assumingMemoryBound(to: UInt8.self)
        for x in 0..<width { found.append(Float(row[x]) / 255) }
    }
    return found
}
#endif
