import SwiftUI

@main
struct PortraitSampleApp: App {
    var body: some Scene {
        WindowGroup { CameraScreen() }
    }
}
