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

  get isOn() {
    return this.#stream !== null;
  }

  /** Another one each time that it is started; null while it is off. */
  get session() {
    return this.#stream;
  }

  /** @param onEnd called with a sentence when the camera stops by itself */
  async start(onEnd) {
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
  }

  stop() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = this.#video.srcObject = null;
  }

  /** The next frame and its time in seconds; null once the camera is off. */
  async next() {
    const time = await new Promise((resolve) => {
      if (!this.isOn) resolve(null);
      else if (this.#video.requestVideoFrameCallback) this.#video.requestVideoFrameCallback((_, { mediaTime }) => resolve(mediaTime));
      else requestAnimationFrame(() => resolve(this.#video.currentTime));
      // a hidden tab, or a camera that ended, sends no more
      setTimeout(() => resolve(undefined), 1000);
    });
    if (!this.isOn) return null;
    if (time === undefined) return this.next();
    return { bitmap: await createImageBitmap(this.#video), time };
  }
}
