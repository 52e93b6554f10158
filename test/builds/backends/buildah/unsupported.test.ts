// What buildah is not asked to do.
import { expect, test } from 'vitest';
import { findUnsupportedReason } from '../../../../src/builds/backends/buildah/command.ts';
import type { RunSupport } from '../../../../src/builds/backends/buildah/isolation.ts';
import { plainSpec, type SpecFields } from '../../../support/plain-order.ts';

const OCI: RunSupport = { mode: { isolation: 'oci', runtime: undefined, network: 'private', wrapper: [] } };
const UNABLE: RunSupport = { ...OCI, fault: 'crun: no cgroups' };
const CHROOT: RunSupport = {
  mode: { isolation: 'chroot', runtime: undefined, network: 'none', wrapper: ['unshare', '--net'] },
};
const OPEN: RunSupport = { mode: { isolation: 'chroot', runtime: undefined, network: 'host', wrapper: [] } };
const run = (text: string): SpecFields => ({
  containerFile: `FROM scratch AS other\nRUN true\nFROM scratch\n${text}\n`,
});

test.each<[name: string, fields: SpecFields, ability: RunSupport | undefined, reason: RegExp | undefined]>([
  ['a plain build', {}, OCI, undefined],
  ['gzip', { compression: { mode: 'gzip' } }, OCI, undefined],
  ['gzip of a level', { compression: { mode: 'gzip', level: 9 } }, OCI, /gzip alone/],
  ['zstd', { compression: { mode: 'zstd' } }, OCI, /gzip alone/],
  ['eStargz', { compression: { mode: 'estargz' } }, OCI, /gzip alone/],
  ['layers of bases packed anew', { compression: { mode: 'gzip', force: true } }, OCI, /gzip alone/],
  ['an SBOM', { attestations: { sbom: true } }, OCI, /attestations/],
  ['a provenance', { attestations: { provenance: 'min' } }, OCI, /attestations/],
  ['a value that is too long', { args: { A: 'x'.repeat(130_000) } }, OCI, /120 KiB/],
  ['a RUN', run('RUN true'), OCI, undefined],
  ['a RUN, before it is known what works', run('RUN true'), undefined, undefined],
  ['a RUN where none works', run('RUN true'), UNABLE, /^line 4: no RUN works with it: crun: no cgroups$/],
  ['a trigger of a stage where no RUN works', run('ONBUILD RUN true\nFROM 1'), UNABLE, undefined],
  ['no RUN where none works', run('COPY a /a'), UNABLE, undefined],
  ['no network', { network: 'none' }, OCI, undefined],
  ['no network, with chroot', { network: 'none' }, CHROOT, undefined],
  ['the network of the machine, with chroot', { network: 'host' }, CHROOT, /hostNetwork/],
  ['no network, with a chroot that has that of the machine', { network: 'none' }, OPEN, /isolation/],
  ['the network of the machine, which it has', { network: 'host' }, OPEN, undefined],
  ['a RUN in the network of the machine', run('RUN --network=host true'), OCI, /^line 4: RUN --network=host is not/],
  ['a RUN in it that was granted', { ...run('RUN --network=host true'), network: 'host' }, OCI, undefined],
  ['a RUN in the network that it has anyway', run('RUN --network=default true'), OCI, undefined],
  ['a RUN without protection', run('RUN --security=insecure true'), OCI, /--security=insecure is not/],
  ['a RUN with a device', run('RUN --device=vendor.com/d=1 true'), OCI, /--device=.* is not/],
  ['what is remote', run('ADD https://example.com/a /a'), OCI, undefined],
  ['what is remote, with chroot', run('ADD https://example.com/a /a'), CHROOT, /nothing remote/],
])('%s', (_, fields, ability, reason) => {
  const found = findUnsupportedReason(plainSpec(fields), ability);
  if (reason) expect(found).toMatch(reason);
  else expect(found).toBeUndefined();
});
