// Runs matte.agsl in Skia, whose language AGSL is, and prints the picture: node agsl.mjs canvaskit.js matte.agsl case.json
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";

const [library, source, file] = process.argv.slice(2);
const init = createRequire(import.meta.url)(library);
const skia = await init({ locateFile: (name) => `${dirname(library)}/${name}` });
const given = JSON.parse(readFileSync(file, "utf8"));

const effect = skia.RuntimeEffect.Make(readFileSync(source, "utf8"), (fault) => {
  console.error(fault);
  process.exit(1);
});

function shader(pixels, width, height, colorType, bytesPerPixel) {
  const info = { width, height, colorType, alphaType: skia.AlphaType.Premul, colorSpace: skia.ColorSpace.SRGB };
  const image = skia.MakeImage(info, pixels, bytesPerPixel * width);
  return image.makeShaderOptions(
    skia.TileMode.Clamp, skia.TileMode.Clamp, skia.FilterMode.Nearest, skia.MipmapMode.None,
  );
}

const { width, height } = given.frame;
const halves = new Uint8Array(Uint16Array.from(given.coefficients.halves).buffer);
const children = [
  shader(Uint8Array.from(given.frame.rgba), width, height, skia.ColorType.RGBA_8888, 4),
  shader(Uint8Array.from(given.background), width, height, skia.ColorType.RGBA_8888, 4),
  shader(halves, given.coefficients.width, given.coefficients.height, skia.ColorType.RGBA_F16, 8),
];
const uniforms = [given.coefficients.width / width, given.coefficients.height / height, given.low, given.high];
const surface = skia.MakeSurface(width, height);
const paint = new skia.Paint();
paint.setShader(effect.makeShaderWithChildren(uniforms, children));
surface.getCanvas().drawPaint(paint);
const info = {
  width, height, colorType: skia.ColorType.RGBA_8888, alphaType: skia.AlphaType.Premul, colorSpace: skia.ColorSpace.SRGB,
};
console.log(JSON.stringify(Array.from(surface.getCanvas().readPixels(0, 0, info))));
