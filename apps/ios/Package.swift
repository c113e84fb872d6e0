// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "Portrait",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [.library(name: "Portrait", targets: ["Portrait"])],
    targets: [
        .target(name: "Portrait"),
        .testTarget(name: "PortraitTests", dependencies: ["Portrait"]),
    ]
)
