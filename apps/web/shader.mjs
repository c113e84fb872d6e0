// Draws a frame with another background on the GPU (WebGL2): coefficients → alpha is one line, the rest is blending.

const VERTEX = `#version 300 es
out vec2 place;
void main() {
  place = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0;
  gl_Position = vec4(place * 2.0 - 1.0, 0.0, 1.0);
}`;

const HEAD = `#version 300 es
precision highp float;
in vec2 place;
out vec4 color;
uniform sampler2D frame, coefficients, matte, behind;
uniform bool hasMatte;
uniform vec2 shape;
float alphaAt(vec2 at, vec3 rgb) {
  if (hasMatte) return texture(matte, at).r;
  vec4 c = texture(coefficients, at);
  float a = clamp(dot(c.rgb, rgb) + c.a, 0.0, 1.0);
  return shape.x <= 0.0 && shape.y >= 1.0 ? a : smoothstep(shape.x, shape.y, a);
}`;

/** Each pixel counts as far as it is background, so that no colour of the person bleeds into the blur. */
const WEIGHTED = `${HEAD}
void main() {
  vec3 rgb = texture(frame, place).rgb;
  float weight = 1.0 - alphaAt(place, rgb) + 1e-3;
  color = vec4(rgb * weight, weight);
}`;

const GAUSS = `#version 300 es
precision highp float;
in vec2 place;
out vec4 color;
uniform sampler2D frame;
uniform vec2 pace;
uniform float sigma;
void main() {
  color = vec4(0.0);
  float total = 0.0;
  for (int i = -18; i <= 18; i++) {
    float weight = exp(-0.5 * float(i * i) / (sigma * sigma));
    color += texture(frame, place + float(i) * pace) * weight;
    total += weight;
  }
  color /= total;
}`;

const BLEND = `${HEAD}
uniform int look;
uniform vec3 fill;
uniform vec2 cover, size;
uniform float split;
uniform bool mirrored;
void main() {
  vec2 at = vec2(mirrored ? 1.0 - place.x : place.x, 1.0 - place.y);
  vec3 rgb = texture(frame, at).rgb;
  color = vec4(rgb, 1.0);
  if (place.x < split) return;
  float alpha = alphaAt(at, rgb);
  vec3 other = fill;
  if (look == 0) {  // a chequered ground stands for transparent
    vec2 square = floor(vec2(place.x, 1.0 - place.y) * size / 12.0);
    other = mod(square.x + square.y, 2.0) < 1.0 ? vec3(0.80) : vec3(0.93);
  } else if (look == 1) {
    vec4 blurred = texture(behind, at);
    other = blurred.rgb / blurred.a;
  } else if (look == 3) {
    other = texture(behind, (vec2(place.x, 1.0 - place.y) - 0.5) * cover + 0.5).rgb;
  } else if (look == 4) {
    color = vec4(vec3(alpha), 1.0);
    return;
  } else if (look == 5) {
    color = vec4(vec3(alpha > 0.5 ? 1.0 : 0.0), 1.0);
    return;
  }
  color = vec4(mix(other, rgb, alpha), 1.0);
}`;

/** What `look` means in the shader. */
const LOOKS = ["cutout", "blur", "color", "picture", "alpha", "mask"];

/** As portraitseg/segment/segmenter.py: sigma as a share of the diagonal, and the greatest in pixels that is computed. */
const BLUR_SHARE = 0.012;
const BLUR_PX = 6;

export class Painter {
  #gl;
  #programs;
  #textures = {};
  #passes = [];
  #sizes = {};

  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: false, alpha: false });
    if (!gl) throw new Error("This browser has no WebGL2, or graphics are switched off: the page cannot draw.");
    this.canvas = canvas;
    this.#gl = gl;
    // without it the blur's weights have 8 bits
    this.isFloat = gl.getExtension("EXT_color_buffer_float") !== null || gl.getExtension("EXT_color_buffer_half_float") !== null;
    this.most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    this.#programs = { weighted: this.#link(WEIGHTED), gauss: this.#link(GAUSS), blend: this.#link(BLEND) };
    for (const name of ["frame", "coefficients", "matte", "picture"]) this.#textures[name] = this.#texture();
    this.takesFrames = this.#canTakeFrames();
  }

  /** Whether textures are made of VideoFrames here, as of ImageBitmaps. */
  #canTakeFrames() {
    try {
      const frame = new VideoFrame(new Uint8Array(16), { format: "RGBA", codedWidth: 2, codedHeight: 2, timestamp: 0 });
      this.#put("frame", this.#gl.RGBA8, this.#gl.RGBA, this.#gl.UNSIGNED_BYTE, frame);
      frame.close();
      return true;
    } catch {
      return false;
    }
  }

  /** A frame (ImageBitmap or VideoFrame), and its alpha: bytes of its own size, or coefficients of any size. */
  setFrame(picture, { alpha, found }) {
    const gl = this.#gl;
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    this.#put("frame", gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, picture);
    this.width = picture.displayWidth ?? picture.width;
    this.height = picture.displayHeight ?? picture.height;
    this.hasMatte = alpha !== undefined;
    if (alpha) this.#put("matte", gl.R8, gl.RED, gl.UNSIGNED_BYTE, new Uint8Array(alpha.buffer), this.width, this.height);
    else this.#put("coefficients", gl.RGBA16F, gl.RGBA, gl.FLOAT, found.data, found.width, found.height);
  }

  setPicture(bitmap) {
    this.#put("picture", this.#gl.RGBA8, this.#gl.RGBA, this.#gl.UNSIGNED_BYTE, bitmap);
    this.#sizes.picture = [bitmap.width, bitmap.height];
  }

  get hasPicture() {
    return this.#sizes.picture !== undefined;
  }

  /**
   * @param options {look, color: [r, g, b] in [0, 1], strength: of the blur, split: share at the left that stays as it
   *   was, mirrored, low, high: of the smooth step}
   */
  draw({ look, color, strength = 1, split = 0, mirrored = false, low = 0, high = 1 }) {
    const gl = this.#gl;
    if (!this.width) return;
    if (this.canvas.width !== this.width) this.canvas.width = this.width;
    if (this.canvas.height !== this.height) this.canvas.height = this.height;
    this.settings = { low, high };
    const behind = look === "blur" ? this.#blur(strength) : this.#textures.picture;
    const program = this.#use("blend", null, this.width, this.height);
    this.#bind(program, { frame: this.#textures.frame, ...this.#alpha(), behind });
    gl.uniform1i(at(gl, program, "look"), LOOKS.indexOf(look));
    gl.uniform3fv(at(gl, program, "fill"), color);
    gl.uniform2f(at(gl, program, "size"), this.width, this.height);
    const [w, h] = this.#sizes.picture ?? [1, 1];
    const factor = Math.max(this.width / w, this.height / h);
    gl.uniform2f(at(gl, program, "cover"), this.width / (w * factor), this.height / (h * factor));
    gl.uniform1f(at(gl, program, "split"), split);
    gl.uniform1i(at(gl, program, "mirrored"), mirrored ? 1 : 0);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  #blur(strength) {
    const gl = this.#gl;
    const sigma = Math.max(1, strength * BLUR_SHARE * Math.hypot(this.width, this.height));
    const factor = Math.max(1, sigma / BLUR_PX);
    const [w, h] = [Math.max(1, Math.round(this.width / factor)), Math.max(1, Math.round(this.height / factor))];
    const [one, two] = [this.#pass(0, w, h), this.#pass(1, w, h)];
    gl.bindTexture(gl.TEXTURE_2D, this.#textures.frame);
    // the smaller picture is made of all its pixels
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    let program = this.#use("weighted", one.target, w, h);
    this.#bind(program, { frame: this.#textures.frame, ...this.#alpha() });
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.bindTexture(gl.TEXTURE_2D, this.#textures.frame);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    for (const [from, to, pace] of [[one, two, [1 / w, 0]], [two, one, [0, 1 / h]]]) {
      program = this.#use("gauss", to.target, w, h);
      this.#bind(program, { frame: from.texture });
      gl.uniform2fv(at(gl, program, "pace"), pace);
      gl.uniform1f(at(gl, program, "sigma"), sigma / factor);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
    }
    return one.texture;
  }

  #alpha() {
    return { coefficients: this.#textures.coefficients, matte: this.#textures.matte };
  }

  #use(name, target, width, height) {
    const gl = this.#gl;
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    gl.viewport(0, 0, width, height);
    gl.useProgram(this.#programs[name]);
    return this.#programs[name];
  }

  #bind(program, textures) {
    const gl = this.#gl;
    Object.entries(textures).forEach(([name, texture], unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.uniform1i(at(gl, program, name), unit);
    });
    gl.uniform1i(at(gl, program, "hasMatte"), this.hasMatte ? 1 : 0);
    // alpha in bytes is shaped already
    gl.uniform2f(at(gl, program, "shape"), this.settings.low, this.settings.high);
    gl.activeTexture(gl.TEXTURE0);
  }

  #put(name, internal, format, type, content, width, height) {
    const gl = this.#gl;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.#textures[name]);
    if (width === undefined) gl.texImage2D(gl.TEXTURE_2D, 0, internal, format, type, content);
    else gl.texImage2D(gl.TEXTURE_2D, 0, internal, width, height, 0, format, type, content);
  }

  #texture() {
    const gl = this.#gl;
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.LINEAR);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 1, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    return texture;
  }

  #pass(index, width, height) {
    const gl = this.#gl;
    const pass = (this.#passes[index] ??= { texture: this.#texture(), target: gl.createFramebuffer() });
    if (pass.width !== width || pass.height !== height) {
      gl.bindTexture(gl.TEXTURE_2D, pass.texture);
      const [internal, type] = this.isFloat ? [gl.RGBA16F, gl.HALF_FLOAT] : [gl.RGBA8, gl.UNSIGNED_BYTE];
      gl.texImage2D(gl.TEXTURE_2D, 0, internal, width, height, 0, gl.RGBA, type, null);
      gl.bindFramebuffer(gl.FRAMEBUFFER, pass.target);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, pass.texture, 0);
      Object.assign(pass, { width, height });
    }
    return pass;
  }

  #link(fragment) {
    const gl = this.#gl;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    return program;
  }
}

function at(gl, program, name) {
  return gl.getUniformLocation(program, name);
}
