import Foundation
import XCTest

@testable import Portrait

/// docs/vectors.json: what the Python reference says, said by Swift; `swift test` runs it on Linux and on a Mac.
final class VectorsTests: XCTestCase {
    private static let vectors: [String: Any] = {
        // apps/ios/Tests/PortraitTests/<this file>
        var root = URL(fileURLWithPath: #filePath)
        for _ in 0..<5 { root.deleteLastPathComponent() }
        let content = try! Data(contentsOf: root.appendingPathComponent("docs/vectors.json"))
        return try! JSONSerialization.jsonObject(with: content) as! [String: Any]
    }()

    private func part(_ name: String) -> [String: Any] { Self.vectors[name] as! [String: Any] }

    private func floats(_ nested: Any?) -> [Float] {
        if let list = nested as? [Any] { return list.flatMap { floats($0) } }
        return [(nested as! NSNumber).floatValue]
    }

    private func bools(_ nested: Any?) -> [Bool] { (nested as! [NSNumber]).map { $0.boolValue } }

    private func picture(_ nested: Any?) -> Picture {
        let rows = nested as! [[Any]]
        return Picture(width: rows[0].count, height: rows.count, pixels: floats(nested).map { UInt8($0) })
    }

    private func number(_ dictionary: [String: Any], _ name: String) -> Float { floats(dictionary[name])[0] }

    private func farthest(_ one: [Float], _ other: [Float]) -> Float {
        XCTAssertEqual(one.count, other.count)
        return zip(one, other).map { abs($0 - $1) }.max() ?? 0
    }

    func testShrinking() {
        let part = self.part("shrink")
        let size = floats(part["size"]).map { Int($0) }
        for case let given as [String: Any] in part["cases"] as! [Any] {
            let method = given["method"] as! String
            let found = shrink(picture(given["photo"]), width: size[1], height: size[0]).pixels.map { Float($0) }
            let tolerance = number(part["tolerance"] as! [String: Any], method)
            XCTAssertLessThanOrEqual(farthest(found, floats(given["resized"])), tolerance, method)
        }
    }

    func testTies() {
        let part = self.part("ties")
        let values = floats(part["probability"])
        XCTAssertEqual(values.map { MaskMath.isPerson(probability: $0) }, bools(part["person"]))
        XCTAssertEqual(values.map { Float(MaskMath.toByte($0)) }, floats(part["byte"]))
        XCTAssertEqual(values.map { MaskMath.isPerson(byte: MaskMath.toByte($0)) }, bools(part["person"]))
    }

    private func refiner(radius: Int = 2, specks: Float? = nil, low: Float = 0.1) -> EdgeRefiner {
        let part = self.part("refine")
        return EdgeRefiner(RefineSettings(
            side: Int(number(part, "side")), radius: radius, epsilon: number(part, "epsilon"),
            low: low, high: 1 - low, specks: specks ?? number(part, "specks"), holes: 0.01
        ))
    }

    func testRefinement() {
        let part = self.part("refine")
        let tolerance = part["tolerance"] as! [String: Any]
        let (input, probability) = (picture(part["inputs"]), floats(part["probability"]))
        let before = refiner(specks: 0).coefficients(input: input, probability: probability)
        let limit = number(tolerance, "coefficients")
        XCTAssertLessThanOrEqual(farthest(before.values, floats(part["coefficients_with_specks"])), limit)
        let found = refiner().coefficients(input: input, probability: probability)
        XCTAssertLessThanOrEqual(farthest(found.values, floats(part["coefficients"])), limit)
        let photo = picture(part["photo"])
        let alpha = refiner(low: 0).apply(found, to: photo)
        XCTAssertLessThanOrEqual(farthest(alpha, floats(part["alpha"])), number(tolerance, "alpha"))
        let shaped = refiner().apply(found, to: photo)
        XCTAssertLessThanOrEqual(farthest(shaped, floats(part["shaped"])), 2 * number(tolerance, "alpha"))
        let cleaned = clean(shaped, width: photo.width, specks: number(part, "specks"), holes: 0.01)
        let flipped = zip(cleaned, floats(part["mask"])).filter { ($0 > 0.5) != ($1 > 0) }.count
        XCTAssertLessThanOrEqual(Float(flipped), number(tolerance, "mask_flipped_pixels"))
    }

    func testTheToleranceNoticesAnotherWindow() {
        let part = self.part("refine")
        let wrong = refiner(radius: 1).coefficients(
            input: picture(part["inputs"]), probability: floats(part["probability"])
        )
        let limit = number(part["tolerance"] as! [String: Any], "coefficients")
        XCTAssertGreaterThan(farthest(wrong.values, floats(part["coefficients"])), 2 * limit)
    }

    func testSmoothing() {
        let part = self.part("smooth")
        var smoother = MaskSmoother(SmoothSettings(
            keep: number(part, "keep"), low: number(part, "low"), high: number(part, "high"),
            reach: Int(number(part, "reach")), cut: number(part, "cut"), gapS: Double(number(part, "gap_s"))
        ))
        for case let frame as [String: Any] in part["frames"] as! [Any] {
            let width = (frame["probability"] as! [[Any]])[0].count
            let time = (frame["time_s"] as! NSNumber).doubleValue
            let found = smoother.smooth(floats(frame["probability"]), width: width, timeS: time)
            XCTAssertLessThanOrEqual(farthest(found, floats(frame["smoothed"])), number(part, "tolerance"))
        }
    }

    func testAMaskThatIsAnotherOneIsFound() {
        let mask = [UInt8](repeating: 0, count: 50) + [UInt8](repeating: 255, count: 50)
        XCTAssertEqual(MaskMath.difference(mask, mask).mean, 0)
        let (mean, flipped) = MaskMath.difference(mask, mask.reversed())
        XCTAssertEqual(mean, 255)
        XCTAssertEqual(flipped, 1)
    }
}
