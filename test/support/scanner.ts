// A small scanner for tests, run as a program of its own: it reads the layers of an OCI image layout for the packages that `sbom.json` names, and
// prints what is known of these as trivy would, or with --spdx an SBOM. With --grype it prints what grype would.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { argv, exit, stderr, stdout } from 'node:process';
import { text } from 'node:stream/consumers';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { z } from 'zod';

const KNOWN: Readonly<Record<string, { readonly id: string; readonly severity: string }>> = {
  log4j: { id: 'CVE-2021-44228', severity: 'CRITICAL' },
  openssl: { id: 'CVE-2022-3602', severity: 'HIGH' },
  zlib: { id: 'CVE-2018-25032', severity: 'LOW' },
};

const indexSchema = z.object({ manifests: z.array(z.object({ digest: z.string() })) });
const manifestSchema = z.object({ layers: z.array(z.object({ digest: z.string() })) });
const sbomSchema = z.array(z.object({ name: z.string(), version: z.string() }));
type Package = z.infer<typeof sbomSchema>[number];

const [, , layout = '', kind = ''] = argv;

async function readBlob(digest: string): Promise<Buffer> {
  return readFile(join(layout, 'blobs', ...digest.split(':', 2)));
}

async function readPackages(layer: Buffer): Promise<readonly Package[]> {
  const tar = extract();
  tar.end(layer[0] === 0x1f ? gunzipSync(layer) : layer);
  for await (const entry of tar) {
    if (entry.header.name === 'sbom.json') return sbomSchema.parse(JSON.parse(await text(entry)));
    entry.resume();
  }
  return [];
}

const index = indexSchema.parse(JSON.parse(await readFile(join(layout, 'index.json'), 'utf8')));
const packages: Package[] = [];
for (const { digest } of index.manifests) {
  const { layers } = manifestSchema.parse(JSON.parse(String(await readBlob(digest))));
  stderr.write(`layers: ${layers.length} in ${layout}\n`);
  for (const layer of layers) packages.push(...(await readPackages(await readBlob(layer.digest)).catch(() => [])));
}
if (packages.some(({ name }) => name === 'unscannable')) exit(3);
const found = packages.flatMap(({ name, version }) => {
  const known = KNOWN[name];
  return known ? [{ name, version, ...known }] : [];
});
const reports = {
  '': {
    SchemaVersion: 2,
    Results: [
      {
        Vulnerabilities: found.map(({ id, severity, name, version }) => ({
          ...{ VulnerabilityID: id, PkgName: name, InstalledVersion: version, Severity: severity },
          ...{ Title: `<b>${name}</b>`, PrimaryURL: `https://example.com/${id}`, FixedVersion: '99' },
        })),
      },
    ],
  },
  '--spdx': {
    spdxVersion: 'SPDX-2.3',
    packages: packages.map(({ name, version }) => ({ name, versionInfo: version })),
  },
  '--grype': {
    matches: found.map(({ id, severity, name, version }) => ({
      vulnerability: { id, severity: `${severity[0]}${severity.slice(1).toLowerCase()}`, fix: { versions: ['99'] } },
      artifact: { name, version },
    })),
  },
};
stdout.write(JSON.stringify(reports[kind === '--spdx' || kind === '--grype' ? kind : '']));
