// The executable of the OCI conformance suite, which VENEER_CONFORMANCE names.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

export const CONFORMANCE = process.env.VENEER_CONFORMANCE ?? '';

/** Every option that the suite has. */
export const EVERYTHING: Readonly<Record<string, string>> = {
  OCI_VERSION: 'dev',
  OCI_REPO1: 'local/conformance/repo1',
  OCI_REPO2: 'local/conformance/repo2',
  OCI_API_BLOBS_DIGEST_HEADER: 'true',
  OCI_API_BLOBS_UPLOAD_CANCEL: 'true',
  OCI_API_MANIFESTS_DIGEST_HEADER: 'true',
  OCI_API_MANIFESTS_TAG_PARAM: 'true',
  OCI_DATA_SPARSE: 'true',
};

/** How many tests ended in which way, against the registry at this port of the loopback. What it writes goes to `directory`. */
export async function runConformance(
  port: number,
  directory: string,
  env: Readonly<Record<string, string>>,
): Promise<Readonly<Record<string, number>>> {
  const target = { OCI_REGISTRY: `127.0.0.1:${port}`, OCI_TLS: 'disabled' };
  const results = { OCI_RESULTS_DIR: join(directory, 'results') };
  const run = promisify(execFile)(CONFORMANCE, [], {
    cwd: directory,
    env: { PATH: process.env.PATH, ...target, ...results, ...env },
    maxBuffer: 256 * 1024 * 1024,
  });
  // It ends with 1 when a test fails; its report says which.
  const { stdout } = await run.catch(error => ({ stdout: String(Object(error).stdout) }));
  const [, report = ''] = /OCI Conformance Result: .*\n((?: {2}.*\n)+)/.exec(stdout) ?? [];
  return Object.fromEntries(
    [...report.matchAll(/^ {2}(\w+)\.*: +(\d+)$/gm)].map(([, name = '', count]) => [name, Number(count)]),
  );
}
