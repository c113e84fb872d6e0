#if canImport(CoreML) && canImport(Vision)
import CoreGraphics
import CoreML
import CoreVideo
import Foundation
import ImageIO

/// Masks of persons by Core ML alone: the pixels are shrunk by our own code, as in training, byte for byte.
///
/// For one thread or actor at a time: its buffers are used again.
public final class CoreMLPortraitSegmenter {
    public let spec: ModelSpec
    private let model: MLModel
    private let pool: CVPixelBufferPool
    private let refiner: EdgeRefiner
    private var smoother: MaskSmoother

    public init(
        spec: ModelSpec, bundle: Bundle = .main, configuration: MLModelConfiguration = MLModelConfiguration()
    ) throws {
        self.spec = spec
        model = try openModel(spec, bundle: bundle, configuration: configuration)
        pool = try makePool(spec)
        refiner = EdgeRefiner(spec.refine)
        smoother = MaskSmoother(spec.smooth)
        let golden = try GoldenVectors(spec, bundle: bundle)
        try golden.compare(with: predict(picture(of: golden.image)))
    }

    /// The mask of a photo. `orientation`: from its metadata.
    public func segment(_ photo: CGImage, orientation: CGImagePropertyOrientation) throws -> Matte {
        let upright = try picture(of: turned(photo, orientation: orientation))
        let input = shrink(upright, width: spec.width, height: spec.height)
        return finish(try predict(input), input: input)
    }

    /// The mask of a video's next frame, upright RGB, smoothed over time; `timeS` in seconds.
    public func segmentFrame(_ frame: Picture, timeS: Double) throws -> Matte {
        let input = shrink(frame, width: spec.width, height: spec.height)
        return finish(smoother.smooth(try predict(input), width: spec.width, timeS: timeS), input: input)
    }

    /// Forgets the frames so far: another camera, another video.
    public func reset() { smoother.reset() }

    private func predict(_ input: Picture) throws -> [Float] {
        let buffer = try makeBuffer(from: pool)
        try write(input, to: buffer)
        let features = try MLDictionaryFeatureProvider(dictionary: [spec.input: MLFeatureValue(pixelBuffer: buffer)])
        guard let mask = try model.prediction(from: features).featureValue(for: spec.output)?.imageBufferValue else {
            throw PortraitError(description: "\(spec.resource): no picture called \(spec.output): another package?")
        }
        return try probabilities(of: mask, spec: spec)
    }

    private func finish(_ probability: [Float], input: Picture) -> Matte {
        Matte(
            probability: probability, width: spec.width, height: spec.height, input: input,
            coefficients: refiner.coefficients(input: input, probability: probability)
        )
    }
}
#endif
