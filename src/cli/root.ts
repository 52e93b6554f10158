// `veneer`: the service itself, and all commands in groups.
import { Command } from 'commander';
import { findSimilar } from '../oci/wording.ts';
import { createAugmentCommand } from './augment.ts';
import { createBackupCommand, createRestoreCommand } from './backup.ts';
import { createBuildCommand } from './build.ts';
import { createBuildsCommand } from './builds.ts';
import { createCacheCommand } from './cache.ts';
import { createCompletionCommand } from './completion.ts';
import { createConfigCommand } from './config.ts';
import { createDoctorCommand } from './doctor/doctor.ts';
import { addExamples } from './examples.ts';
import { createGcCommand } from './gc.ts';
import { createManualCommand } from './manual.ts';
import { createMigrateCommand } from './migrate.ts';
import { createMirrorConfigCommand } from './mirror.ts';
import { createRegistriesCommand } from './registries.ts';
import { createRepairCommand } from './repair.ts';
import { createRepoCommand } from './repo.ts';
import { createRulesCommand } from './rules.ts';
import { createStatusCommand } from './status.ts';
import { createTokenCommand } from './token.ts';

/** The options of `veneer` itself, which its commands may have too. */
export interface RootFlags {
  readonly config?: string;
  readonly listen?: string;
  readonly dataDir?: string;
}

type RootDeps = Parameters<typeof createCacheCommand>[0] &
  Parameters<typeof createTokenCommand>[0] &
  Parameters<typeof createBackupCommand>[0] &
  Parameters<typeof createMirrorConfigCommand>[0] &
  Parameters<typeof createConfigCommand>[0] &
  Parameters<typeof createDoctorCommand>[0] & {
    readonly version: string;
    /** Whether standard error is a terminal, to show progress. */
    readonly isTerminal: boolean;
    readonly findGcTarget: Parameters<typeof createGcCommand>[0]['findTarget'];
    readonly findMigrationTarget: Parameters<typeof createMigrateCommand>[0]['findTarget'];
    readonly findRepairTarget: Parameters<typeof createRepairCommand>[0]['findTarget'];
    /** Runs the service until it ends. */
    readonly serve: (flags: RootFlags) => Promise<void>;
  };

/** All functions in `deps` are called when a command runs, not before. */
export function createRootCommand(deps: RootDeps): Command {
  const { version, isTerminal, serve } = deps;
  const root = new Command('veneer')
    .description('A registry proxy that puts a thin layer on any container image as it is pulled.')
    .usage('[options]            starts the service\n       veneer [options] <command>  see below')
    .version(version)
    .option('--config <file>', 'the configuration file (VENEER_CONFIG; default: ./veneer.yaml if it exists)')
    .option('--listen <host:port>', 'the address to listen on (VENEER_LISTEN; default: 127.0.0.1:8080)')
    .option('--data-dir <directory>', 'the data directory (VENEER_DATA_DIR; default: .veneer)')
    .allowExcessArguments()
    .allowUnknownOption()
    .action(async (flags: RootFlags, self: Command) => {
      refuseUnknown(self);
      await serve(flags);
    });
  root
    .commandsGroup('Service:')
    .addCommand(createStatusCommand(deps))
    .addCommand(createConfigCommand(deps))
    .addCommand(createDoctorCommand(deps))
    .commandsGroup('Images:')
    .addCommand(createAugmentCommand(deps))
    .addCommand(createBuildCommand(deps))
    .addCommand(createBuildsCommand(deps))
    .addCommand(createRulesCommand(deps))
    .commandsGroup('Clients:')
    .addCommand(createMirrorConfigCommand(deps))
    .commandsGroup('Access:')
    .addCommand(createTokenCommand(deps))
    .addCommand(createRegistriesCommand(deps))
    .commandsGroup('Data:')
    .addCommand(createRepoCommand(deps))
    .addCommand(createCacheCommand(deps))
    .addCommand(createGcCommand({ findTarget: deps.findGcTarget, isTerminal }))
    .addCommand(createBackupCommand(deps))
    .addCommand(createRestoreCommand(deps))
    .addCommand(createRepairCommand({ findTarget: deps.findRepairTarget, isTerminal }))
    .addCommand(createMigrateCommand({ findTarget: deps.findMigrationTarget, isTerminal }))
    .commandsGroup('Help:')
    .addCommand(createCompletionCommand())
    .addCommand(createManualCommand({ version }))
    .helpCommand('help [command]', 'shows the help of a command');
  return addExamples(root);
}

/** The library would take the unknown command for an argument, and complain about its options first. */
function refuseUnknown(self: Command): void {
  const [word] = self.args;
  if (word === undefined) return;
  if (word.startsWith('-')) self.allowUnknownOption(false).parse(self.args, { from: 'user' });
  const names = self.commands.flatMap(command => [command.name(), ...command.aliases()]);
  const similar = findSimilar(word, names);
  const suggestion = similar === undefined ? '' : `\n(Did you mean ${similar}?)`;
  self.error(`error: unknown command '${word}'${suggestion}`, { code: 'commander.unknownCommand' });
}
