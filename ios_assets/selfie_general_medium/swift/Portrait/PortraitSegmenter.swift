#if canImport(Vision)
import CoreGraphics
import CoreML
import CoreVideo
import Foundation
import ImageIO
import Vision

/// A file that is missing, damaged or another than its manifest says, or a picture that cannot be used.
public struct PortraitError: Error, CustomStringConvertible {
    public let description: String
}

/// What was found of one photo or frame, upright.
public struct Matte {
    /// Probability of person at the network's size, rows from the top.
    public let probability: [Float]
    public let width: Int
    public let height: Int
    /// The small picture that the network saw, and what stretches the mask along the photo's edges.
    public let input: Picture
    public let coefficients: EdgeRefiner.Coefficients
}

/// Masks of persons by Vision, which turns and stretches the picture itself.
///
/// For one thread or actor at a time: Vision's sequence handler belongs to one video.
public final class PortraitSegmenter {
    public let spec: ModelSpec
    private let request: VNCoreMLRequest
    private var sequence = VNSequenceRequestHandler()
    private let refiner: EdgeRefiner
    private var smoother: MaskSmoother
    private var lastOrientation: CGImagePropertyOrientation?

    /// Opens the compiled package among the bundle's resources and proves it by its golden portrait.
    public init(
        spec: ModelSpec, bundle: Bundle = .main, configuration: MLModelConfiguration = MLModelConfiguration()
    ) throws {
        self.spec = spec
        let model = try openModel(spec, bundle: bundle, configuration: configuration)
        request = VNCoreMLRequest(model: try VNCoreMLModel(for: model))
        // stretched, not cropped: as in training
        request.imageCropAndScaleOption = .scaleFill
        refiner = EdgeRefiner(spec.refine)
        smoother = MaskSmoother(spec.smooth)
        let golden = try GoldenVectors(spec, bundle: bundle)
        try golden.compare(with: perform(on: golden.image, orientation: .up))
    }

    /// The mask of a photo.
    ///
    /// - Parameter orientation: of the photo, from its metadata. A CGImage has none, and a photo on its side loses much
    ///   of its mask; `UIImage.imageOrientation` has other raw values.
    public func segment(_ photo: CGImage, orientation: CGImagePropertyOrientation) throws -> Matte {
        let mask = try perform(on: photo, orientation: orientation)
        return try finish(mask, input: smallPicture(of: photo, orientation: orientation, spec: spec))
    }

    /// The mask of a camera's next frame, smoothed over time.
    ///
    /// - Parameters:
    ///   - orientation: what turns the buffer upright; the mirrored ones for a front camera.
    ///   - timeS: of the frame in seconds; after a gap, or another orientation, smoothing begins anew.
    public func segmentFrame(
        _ frame: CVPixelBuffer, orientation: CGImagePropertyOrientation, timeS: Double
    ) throws -> Matte {
        if orientation != lastOrientation { reset() }
        lastOrientation = orientation
        try sequence.perform([request], on: frame, orientation: orientation)
        let mask = smoother.smooth(try result(), width: spec.width, timeS: timeS)
        return try finish(mask, input: smallPicture(of: frame, orientation: orientation, spec: spec))
    }

    /// Forgets the frames so far: another camera, another video.
    public func reset() {
        smoother.reset()
        sequence = VNSequenceRequestHandler()
    }

    private func perform(on image: CGImage, orientation: CGImagePropertyOrientation) throws -> [Float] {
        try VNImageRequestHandler(cgImage: image, orientation: orientation).perform([request])
        return try result()
    }

    private func result() throws -> [Float] {
        guard let buffer = (request.results?.first as? VNPixelBufferObservation)?.pixelBuffer else {
            throw PortraitError(description: "\(spec.resource): its output is no picture: take the -fp16 package")
        }
        return try probabilities(of: buffer, spec: spec)
    }

    private func finish(_ probability: [Float], input: Picture) -> Matte {
        Matte(
            probability: probability, width: spec.width, height: spec.height, input: input,
            coefficients: refiner.coefficients(input: input, probability: probability)
        )
    }
}
#endif
