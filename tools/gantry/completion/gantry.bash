# bash completion for gantry(1)
_gantry() {
  local cur prev words cword
  if declare -F _init_completion >/dev/null; then
    _init_completion -n = || return
  else
    words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
  fi
  local common="--address --services --principal --secret-file --json --color --help"
  case $prev in
    --secret-file | -o | --out) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    --module-dir) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
    --color) mapfile -t COMPREPLY < <(compgen -W "auto always never" -- "$cur"); return ;;
    -a | --address | --services | --principal | --set | -n | --lines | --for | --slower | --every | --max | --max-body | --exclude) return ;;
    --method) return ;;
  esac

  # The command is what is no option and no option's value.
  local i command="" sub="" operands=0 options=()
  for ((i = 1; i < cword; i++)); do
    case ${words[i]} in
      -a | --address | --services | --principal | --secret-file | --color)
        options+=("${words[i]}" "${words[i + 1]}")
        ((i++))
        ;;
      --set | --module-dir | -n | --lines | -o | --out | --for | --slower | --every | --max | --max-body | --method | --exclude)
        ((i++))
        ;;
      -*) ;;
      *)
        if [[ -z $command ]]; then
          command=${words[i]}
        elif [[ -z $sub && $command =~ ^(app|task|image|module|config|why)$ ]]; then
          sub=${words[i]}
        else
          ((operands++))
        fi
        ;;
    esac
  done

  local choices=""
  case "$command $sub" in
    " ") choices="status agents frameworks why app task image module config version" ;;
    "why ") choices="framework" ;;
    "why framework")
      ((operands == 0)) && [[ $cur != -* ]] && choices=$(gantry "${options[@]}" --color never frameworks 2>/dev/null | awk 'NR > 1 { print $1 }') ;;
    "app ") choices="deploy list show scale restart remove" ;;
    "task ") choices="list log exec stats kill" ;;
    "image ") choices="list pull prune" ;;
    "image prune") common+=" --exclude" ;;
    "module ") choices="list show trace record" ;;
    "module show" | "module trace" | "module record")
      [[ $sub == show ]] && common+=" --lines"
      [[ $sub == trace ]] && common+=" --for --method --errors --slower --all --summary --every"
      [[ $sub == record ]] && common+=" --out --for --max --max-body --with-secrets"
      ((operands == 0)) && [[ $cur != -* ]] && choices=$(gantry "${options[@]}" --color never module list 2>/dev/null | awk 'NR > 1 { print $1 }') ;;
    "config ") choices="check show fields from-mesos" ;;
    "app deploy")
      [[ $cur != -* ]] && { mapfile -t COMPREPLY < <(compgen -f -X '!*.json' -- "$cur"; compgen -d -- "$cur"); return; }
      common+=" --no-wait --force" ;;
    "app show" | "app scale" | "app restart" | "app remove")
      [[ $sub != show ]] && common+=" --no-wait --force"
      ((operands == 0)) && [[ $cur != -* ]] && choices=$(gantry "${options[@]}" --color never app list 2>/dev/null | awk 'NR > 1 && $1 ~ /^\// { print $1 }') ;;
    "task list") common+=" --all" ;;
    "task log" | "task kill" | "task exec" | "task stats")
      [[ $sub == log ]] && common+=" --follow --stderr --lines"
      [[ $sub == exec ]] && common+=" --interactive --tty"
      [[ $sub == stats ]] && common+=" --once"
      ((operands == 0)) && [[ $cur != -* ]] && choices=$(gantry "${options[@]}" --color never task list 2>/dev/null | awk 'NR > 1 && $2 ~ /^TASK_/ { print $1 }') ;;
    "config check" | "config show")
      [[ $cur != -* ]] && { mapfile -t COMPREPLY < <(compgen -f -X '!*.toml' -- "$cur"; compgen -d -- "$cur"); return; }
      common+=" --set --module-dir" ;;
    "config fields") common+=" --module-dir"; choices="kernel" ;;
    "config from-mesos") choices="master agent --" ;;
  esac
  [[ $cur == -* ]] && choices=$common
  mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
}
complete -F _gantry gantry
