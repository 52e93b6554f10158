// One run of the scanner: the images are written to disk as an OCI image layout, which needs no registry and no credentials, and the
// configured command reads that. No shell is involved.
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { BackendUnavailable } from '../builds/execution.ts';
import { InvalidLayout, writeLayout } from '../builds/image-layout.ts';
import { childEnvironment, type Environment, runProcess } from '../builds/process.ts';
import type { Digest } from '../oci/digest.ts';
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

/** Throws ScanFailure, or the signal's reason. `log` gets lines of text. */
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
      const { openBlob } = image;
      await writeLayout(folder, { manifest, openBlob, maxBytes: deps.maxImageBytes, signal: rest.signal }).catch(
        error => {
          if (!(error instanceof InvalidLayout)) throw error;
          throw new ScanFailure(`${error.message} (scans.maxImage)`, { cause: error });
        },
      );
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
