import SwiftUI

/// One screen: the camera with its background blurred or replaced, and the time of a frame.
struct CameraScreen: View {
    @StateObject private var camera = Camera()

    var body: some View {
        ZStack(alignment: .bottom) {
            Color.black.ignoresSafeArea()
            if let frame = camera.frame {
                Image(decorative: frame, scale: 1).resizable().scaledToFit().ignoresSafeArea()
            }
            VStack(spacing: 12) {
                Text(camera.message).font(.footnote.monospacedDigit()).foregroundStyle(.white)
                Picker("Background", selection: $camera.background) {
                    ForEach(Background.allCases) { Text($0.rawValue).tag($0) }
                }
                .pickerStyle(.segmented)
            }
            .padding()
        }
        .task { await camera.start() }
        .onDisappear { camera.stop() }
    }
}

enum Background: String, CaseIterable, Identifiable {
    case none = "As it is"
    case blur = "Blur"
    case replace = "Replace"

    var id: String { rawValue }
}
