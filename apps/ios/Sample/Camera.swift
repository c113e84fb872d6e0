import AVFoundation
import CoreImage
import CoreImage.CIFilterBuiltins
import SwiftUI
// a released folder's sources lie in the app itself
#if canImport(Portrait)
import Portrait
#endif

/// The front camera, segmented on one queue; late frames are dropped.
final class Camera: NSObject, ObservableObject, AVCaptureVideoDataOutputSampleBufferDelegate {
    @Published private(set) var frame: CGImage?
    @Published private(set) var message = ""
    @Published var background = Background.blur {
        didSet { queue.async { [background] in self.shown = background } }
    }

    private let session = AVCaptureSession()
    // the segmenter is made, used and let go on this queue alone
    private let queue = DispatchQueue(label: "portrait")
    private var segmenter: PortraitSegmenter?
    private var shown = Background.blur
    private let context = CIContext()

    func start() async {
        guard await AVCaptureDevice.requestAccess(for: .video) else {
            return say("No camera: allow it in Settings.")
        }
        queue.async {
            do {
                if self.segmenter == nil { self.segmenter = try PortraitSegmenter(spec: PortraitModel.spec) }
                if self.session.inputs.isEmpty { try self.open() }
                self.session.startRunning()
            } catch {
                self.say("\(error)")
            }
        }
    }

    func stop() {
        queue.async {
            self.session.stopRunning()
            self.segmenter?.reset()
        }
    }

    private func open() throws {
        guard let device = AVCaptureDevice.default(.builtInWideAngleCamera, for: .video, position: .front) else {
            return say("This device has no front camera.")
        }
        session.sessionPreset = .hd1280x720
        session.addInput(try AVCaptureDeviceInput(device: device))
        let output = AVCaptureVideoDataOutput()
        output.videoSettings = [kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA]
        output.alwaysDiscardsLateVideoFrames = true
        output.setSampleBufferDelegate(self, queue: queue)
        session.addOutput(output)
    }

    func captureOutput(
        _ output: AVCaptureOutput, didOutput sample: CMSampleBuffer, from connection: AVCaptureConnection
    ) {
        guard let buffer = CMSampleBufferGetImageBuffer(sample), let segmenter else { return }
        let begin = CACurrentMediaTime()
        do {
            // the sensor lies on its side, and a front camera is shown as a mirror; the phone upright
            let orientation = CGImagePropertyOrientation.leftMirrored
            let time = CMSampleBufferGetPresentationTimeStamp(sample).seconds
            let matte = try segmenter.segmentFrame(buffer, orientation: orientation, timeS: time)
            let photo = CIImage(cvPixelBuffer: buffer).oriented(orientation)
            guard let image = blend(photo, matte) else { return }
            let text = String(format: "%.1f ms a frame", 1000 * (CACurrentMediaTime() - begin))
            DispatchQueue.main.async { (self.frame, self.message) = (image, text) }
        } catch {
            say("\(error)")
        }
    }

    private func blend(_ photo: CIImage, _ matte: Matte) -> CGImage? {
        guard shown != .none else { return context.createCGImage(photo, from: photo.extent) }
        let bytes = Data(matte.probability.map(MaskMath.toByte))
        let small = CIImage(
            bitmapData: bytes, bytesPerRow: matte.width, size: CGSize(width: matte.width, height: matte.height),
            format: .L8, colorSpace: nil
        )
        // follows the photo's edges on the GPU; Matte.coefficients with a Metal kernel is the exact way
        let mask = small.applyingFilter("CIEdgePreserveUpsampleFilter", parameters: [
            "inputImage": photo, "inputSmallImage": small, "inputSpatialSigma": 3, "inputLumaSigma": 0.15,
        ])
        let filter = CIFilter.blendWithMask()
        filter.inputImage = photo
        filter.maskImage = mask
        filter.backgroundImage = shown == .replace
            ? CIImage(color: CIColor(red: 0.1, green: 0.3, blue: 0.5)).cropped(to: photo.extent)
            : photo.clampedToExtent().applyingGaussianBlur(sigma: 18).cropped(to: photo.extent)
        return filter.outputImage.flatMap { context.createCGImage($0, from: photo.extent) }
    }

    private func say(_ text: String) {
        DispatchQueue.main.async { self.message = text }
    }
}
