// One run of the scanner: the images are written to disk as an OCI image layout, which needs no registry and no credentials, and the
// configured command reads that. No shell is involved.
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { stripVTControlCharacters } from 'node:util';
import { BackendUnavailable } from '../builds/execution.ts';
import { childEnvironment, type Environment, runProcess } from '../builds/process.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';
import type { ImageManifest } from '../oci/manifest.ts';
import { formatSize } from '../oci/wording.ts';
import type { Vulnerability } from './record.ts';
import { InvalidReport, parseReport } from './report.ts';

/** An image as clients will pull it, with all its platforms. */
export interface ScannedImage {
  readonly name: string;
  readonly digest: Digest;
  readonly images: readonly ScannedPlatform[];
  openBlob(digest: Digest): Promise<ReadableStream<Uint8Array>>;
}

interface ScannedPlatform {
  readonly platform: string;
  readonly manifest: ImageManifest;
}

interface ScannerOptions {
  /** The command and its arguments; `{layout}` in one is the folder of the image, `{image}` its name, `{platform}` its platform. */
  readonly command: readonly string[];
  /** A command that prints an SBOM of the image as SPDX JSON; absent: no SBOM is made. */
  readonly sbom: readonly string[] | undefined;
  /** For each command and platform. */
  readonly timeoutMs: number;
  /** For each command's output, in characters. */
  readonly maxOutput: number;
  /** For all layers of an image, for one platform. */
  readonly maxImageBytes: number;
}

interface ScannerDeps extends ScannerOptions {
  /** Holds the image layouts, and the scanners' own caches. */
  readonly directory: string;
  readonly environment: Environment;
}

interface Scanned {
  readonly found: readonly Vulnerability[];
  /** The SBOM of the first platform. */
  readonly spdx: string | undefined;
}

/** Throws ScanFailure, or the signal's reason. `log` gets lines for people. */
export type Scanner = (image: ScannedImage, log: (line: string) => void, signal: AbortSignal) => Promise<Scanned>;

/** The message is one line, and safe to show to callers. */
export class ScanFailure extends Error {
  override readonly name = 'ScanFailure';
}

export function createScanner(deps: ScannerDeps): Scanner {
  const home = join(deps.directory, 'home');

  async function run(template: readonly string[], { folder, image, platform, log, signal }: Run): Promise<string> {
    const words: Readonly<Record<string, string>> = { layout: folder, image: image.name, platform };
    const [command = '', ...args] = template.map(word => word.replaceAll(PLACEHOLDER, (_, name) => words[name] ?? ''));
    const late = AbortSignal.timeout(deps.timeoutMs);
    let output = '';
    const onLine = (line: string, from: 'stdout' | 'stderr') => {
      if (from === 'stderr') log(stripVTControlCharacters(line).replaceAll(folder, '<image>'));
      else output += `${line}\n`;
      if (output.length > deps.maxOutput)
        throw new ScanFailure(`${command} printed more than ${formatSize(deps.maxOutput)} (scans.maxOutput)`);
    };
    try {
      const { code, endedBy } = await runProcess(command, args, {
        env: childEnvironment(deps.environment, { HOME: home }),
        cwd: folder,
        signal: AbortSignal.any([signal, late]),
        maxLineLength: deps.maxOutput,
        onLine,
      });
      if (code !== 0) throw new ScanFailure(`${command} failed (${endedBy ?? `exit code ${code}`}): the log has more`);
      return output;
    } catch (error) {
      if (error === late.reason)
        throw new ScanFailure(`${command} took longer than ${deps.timeoutMs / 1000} s (scans.timeout)`);
      if (error instanceof BackendUnavailable) throw new ScanFailure(error.message, { cause: error });
      throw error;
    }
  }

  async function scanPlatform(image: ScannedImage, { platform, manifest }: ScannedPlatform, rest: Rest) {
    const folder = await mkdtemp(join(deps.directory, 'image-'));
    try {
      await writeLayout(folder, { image, manifest, maxBytes: deps.maxImageBytes, signal: rest.signal });
      const of = { folder, image, platform, ...rest };
      rest.log(`${platform}: ${deps.command[0]}`);
      const found = parseFound(await run(deps.command, of));
      const spdx = rest.wantsSpdx && deps.sbom ? await run(deps.sbom, of) : undefined;
      return { found, spdx };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  return async (image, log, signal) => {
    await mkdir(home, { recursive: true, mode: 0o700 });
    const all: Vulnerability[] = [];
    let first: string | undefined;
    for (const [at, each] of image.images.entries()) {
      const { found, spdx } = await scanPlatform(image, each, { log, signal, wantsSpdx: at === 0 });
      for (const vulnerability of found) all.push(vulnerability);
      first ??= spdx;
    }
    return { found: all, spdx: first };
  };
}

const PLACEHOLDER = /\{(layout|image|platform)\}/g;

interface Rest {
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
  readonly wantsSpdx: boolean;
}

interface Run extends Rest {
  readonly folder: string;
  readonly image: ScannedImage;
  readonly platform: string;
}

function parseFound(report: string): readonly Vulnerability[] {
  try {
    return parseReport(report);
  } catch (error) {
    throw error instanceof InvalidReport ? new ScanFailure(error.message, { cause: error }) : error;
  }
}

interface LayoutOptions {
  readonly image: Pick<ScannedImage, 'openBlob'>;
  readonly manifest: ImageManifest;
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

/** One image of one platform, as image-spec "OCI Image Layout" has it. Throws ScanFailure, or what the image's registry throws. */
async function writeLayout(folder: string, { image, manifest, maxBytes, signal }: LayoutOptions): Promise<void> {
  const blobs = new Map([manifest.config, ...manifest.layers].map(blob => [blob.digest, blob]));
  const bytes = blobs.values().reduce((sum, { size }) => sum + size, 0);
  if (bytes > maxBytes)
    throw new ScanFailure(
      `the image has ${formatSize(bytes)}, over the limit of ${formatSize(maxBytes)} (scans.maxImage)`,
    );
  const { raw, mediaType, digest } = manifest;
  await putBlob(folder, digest, async file => void (await writeFile(file, raw)));
  for (const blob of blobs.values())
    await putBlob(folder, blob.digest, file => download(image, blob, { file, signal }));
  const manifests = [{ mediaType, digest, size: raw.byteLength }];
  await writeFile(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  await writeFile(join(folder, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
}

async function putBlob(folder: string, digest: Digest, write: (file: string) => Promise<void>): Promise<void> {
  const kind = join(folder, 'blobs', digestAlgorithm(digest));
  await mkdir(kind, { recursive: true });
  await write(join(kind, digestHex(digest)));
}

/** Content is verified while it is read; no more is written than the descriptor's size. */
async function download(
  image: Pick<ScannedImage, 'openBlob'>,
  { digest, size }: Descriptor,
  { file, signal }: { readonly file: string; readonly signal: AbortSignal },
): Promise<void> {
  let written = 0;
  const limit = async function* (chunks: AsyncIterable<Uint8Array>) {
    for await (const chunk of chunks) {
      written += chunk.byteLength;
      if (written > size) throw new ScanFailure(`${digest} has more bytes than its manifest says`);
      yield chunk;
    }
  };
  await pipeline(await image.openBlob(digest), limit, createWriteStream(file), { signal });
}
