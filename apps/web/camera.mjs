// The camera: frames as they come, and what is wrong with it in a sentence.

const WORDS = {
  NotAllowedError: "The camera was refused. Allow it for this page (in the address bar), then start it again.",
  SecurityError: "The camera was refused by the browser's settings.",
  NotFoundError: "No camera was found. Plug one in, then start it again.",
  OverconstrainedError: "No camera was found that fits. Plug another one in, then start it again.",
  NotReadableError: "The camera is there, but another program uses it, or it failed. Close that program, then start it again.",
  AbortError: "The camera could not be started. Start it again.",
};

export class Camera {
  #stream = null;
  #video = document.createElement("video");
  /** Of the track's own frames; null where they cannot be used, and the video is asked. */
  #reader = null;
  #fresh = null;
  #tell = () => {};

  get isOn() {
    return this.#stream !== null;
  }

  /** Another one each time that it is started; null while it is off. */
  get session() {
    return this.#stream;
  }

  /**
   * @param takesFrames whether the one who draws takes a VideoFrame
   * @param onEnd called with a sentence when the camera stops by itself
   */
  async start(takesFrames, onEnd) {
    if (!navigator.mediaDevices?.getUserMedia) throw new Error("This browser gives no camera to pages that are not from https or from this machine.");
    try {
      const video = { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: "user" };
      this.#stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    } catch (error) {
      throw new Error(WORDS[error.name] ?? `The camera could not be started (${error.name}).`);
    }
    const [track] = this.#stream.getVideoTracks();
    // a camera at the back shows the world as it is, one at the front as a mirror does
    this.isMirrored = track.getSettings().facingMode !== "environment";
    track.addEventListener("ended", () => {
      this.stop();
      onEnd("The camera was unplugged, or taken away from this page. Plug it in, then start it again.");
    });
    this.#video.muted = this.#video.playsInline = true;
    this.#video.srcObject = this.#stream;
    await this.#video.play();
    this.#watch(this.#stream);
    if (!takesFrames || !globalThis.MediaStreamTrackProcessor || !this.isOn) return;
    // frames as the camera made them: a video's come by way of the GPU, which took 100 times as long to read
    this.#reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 1 }).readable.getReader();
    this.#video.pause();
  }

  stop() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = this.#video.srcObject = null;
    this.#dropReader();
    this.#tell();
  }

  /**
   * The newest frame that was not taken yet (a VideoFrame or an ImageBitmap) and its time in seconds, waiting for one where
   * there is none; null once the camera is off. Frames between two calls are skipped.
   */
  async next() {
    if (this.#reader) {
      const { value: frame } = await this.#reader.read();
      if (!frame) return null;
      if (this.isOn && isPlain(frame, this.#video)) return { picture: frame, time: frame.timestamp / 1e6 };
      frame.close();
      // the video turns what lies on its side
      this.#dropReader();
      if (this.isOn) await this.#video.play();
    }
    while (this.isOn && this.#fresh === null) await new Promise((resolve) => (this.#tell = resolve));
    if (!this.isOn) return null;
    const time = this.#fresh;
    this.#fresh = null;
    return { picture: await createImageBitmap(this.#video), time };
  }

  #dropReader() {
    this.#reader?.cancel().catch(() => {});
    this.#reader = null;
  }

  /** Notes each frame of the video as it comes. */
  #watch(stream) {
    const note = (time) => {
      if (this.#stream !== stream) return;
      this.#fresh = time;
      this.#tell();
      this.#wait(note);
    };
    this.#fresh = null;
    this.#wait(note);
  }

  #wait(note) {
    if (this.#video.requestVideoFrameCallback) this.#video.requestVideoFrameCallback((_, { mediaTime }) => note(mediaTime));
    else requestAnimationFrame(() => note(this.#video.currentTime));
  }
}

/** Whether a frame is as the video shows it, not cut, turned or mirrored, and this browser converts it to RGBA. */
function isPlain(frame, { videoWidth, videoHeight }) {
  const { displayWidth: width, displayHeight: height, visibleRect, rotation = 0, flip = false } = frame;
  if (width !== videoWidth || height !== videoHeight || rotation !== 0 || flip) return false;
  if (visibleRect?.width !== width || visibleRect.height !== height) return false;
  try {
    // a browser that knows no conversion says another size, or throws
    return frame.allocationSize({ format: "RGBA" }) === width * height * 4;
  } catch {
    return false;
  }
}
